"""A small world that is always the same: what the services know, drawn by a hash.

Places have their hotels, halls and salons whoever asks; what depends on a day depends on it alone.
So a search and the booking after it speak of the same things.
"""

from collections.abc import Callable, Mapping
from typing import Any

from draw import Asked, Dice

_answers: dict[str, Callable[[Asked], str]] = {}


def answer(service: str, arguments: Mapping[str, Any]) -> str:
    """What the service says to these arguments, in a sentence or a few."""
    asked = Asked(arguments)
    if service in _answers:
        return _answers[service](asked)
    return f"{service}: done with {asked.every() or 'nothing'}. {_confirmed(service, asked)}"


def says(service: str) -> Callable[[Callable[[Asked], str]], Callable[[Asked], str]]:
    """Makes the function the answer of a service."""

    def register(function: Callable[[Asked], str]) -> Callable[[Asked], str]:
        _answers[service] = function
        return function

    return register


FIRST = ("Ada", "Bruno", "Clara", "Daniel", "Elif", "Farid", "Grace", "Hugo", "Ines", "Jonas")
LAST = ("Alder", "Brandt", "Costa", "Dufour", "Ellis", "Fontana", "Grant", "Hale", "Ito", "Jensen")
TREES = ("Maple", "Cedar", "Willow", "Juniper", "Linden", "Birch", "Hazel", "Rowan", "Laurel")
STREETS = ("Market Street", "Harbor Road", "Mill Lane", "Station Square", "Park Avenue")
BANDS = ("The Paper Lanterns", "Northern Ferry", "Saltwater Choir", "Velvet Engine", "Nine Rivers")
PLAYS = ("The Glass Orchard", "A Winter Lease", "Seven Chairs", "The Cartographer", "Low Tide")
FILMS = ("The Long Meridian", "Paper Moons", "Harvest of Stars", "The Quiet Signal", "Second Dawn")
SONGS = ("Slow Lighthouse", "Copper Sky", "Half a Mile", "Evening Arithmetic", "Blue Harbour")
DISHES = ("braised lamb", "charred aubergine", "hand-cut noodles", "smoked trout", "fig tart")
SIGHTS = ("Old Observatory", "Riverside Garden", "Museum of Maps", "Clock Tower", "Lantern Hall")
AIRLINES = ("Alaska Airlines", "American Airlines", "Delta Airlines", "United Airlines")
SKIES = ("sunny", "partly cloudy", "overcast", "rainy", "windy with showers", "foggy, then clear")


@says("Alarm_1_AddAlarm")
def _alarm_added(a: Asked) -> str:
    name = a("new_alarm_name", "New alarm")
    return f'The alarm "{name}" is set for {a("new_alarm_time", "the given time")}.'


@says("Alarm_1_GetAlarms")
def _alarms(a: Asked) -> str:
    dice = Dice("alarms", a("user_id"), a("date"))
    early, late = dice.time(6, 9), dice.time(18, 22)
    off = " (off)" if a.yes("include_disabled") else ""
    more = f" and one at {late}{off}" if off or dice.number(0, 1) else ""
    return f"{a('user_id', 'You')}: an alarm at {early}{more} for {a.day('date')}."


@says("Buses_3_FindBus")
def _bus_found(a: Asked) -> str:
    dice = Dice("bus", a("from_city"), a("to_city"), a("departure_date"))
    first, second = sorted([dice.time(6, 13), dice.time(13, 22)])
    kind, price = a("category", "direct"), dice.number(12, 60)
    return (
        f"{kind.capitalize()} buses {_route(a('from_city'), a('to_city'))} on "
        f"{a.day('departure_date')} leave at {first} and {second}, ${price} a ticket, "
        f"${price * a.number('num_passengers')} in all."
    )


@says("Buses_3_BuyBusTicket")
def _bus_bought(a: Asked) -> str:
    count = a.number("num_passengers")
    luggage = " with extra luggage" if a.yes("additional_luggage") else ""
    return (
        f"Bought: {_tickets(count)}{luggage} for the bus {_route(a('from_city'), a('to_city'))} "
        f"on {a.day('departure_date')} at {a('departure_time')}. {_confirmed('bus', a)}"
    )


@says("Events_3_FindEvents")
def _events_found(a: Asked) -> str:
    dice = Dice("events", a("event_type"), a("city"), a("date"))
    music = a("event_type", "Music").lower() == "music"
    first, second = dice.some(BANDS if music else PLAYS, 2)
    hall = f"{_tree('hall', a('city'))} {'Hall' if music else 'Theater'}"
    return (
        f"{a('event_type', 'Cultural')} events in {a('city')} on {a.day('date', 'the next days')}: "
        f'"{first}" at {dice.time(18, 21)} in {hall} (${dice.number(20, 90)}), and "{second}" at '
        f"{dice.time(18, 21)} in the Old Depot (${dice.number(15, 70)})."
    )


@says("Events_3_BuyEventTickets")
def _event_bought(a: Asked) -> str:
    return (
        f"Bought: {_tickets(a.number('number_of_tickets'))} for {a('event_name')} in {a('city')} "
        f"on {a.day('date')}. {_confirmed('event', a)}"
    )


@says("Flights_4_SearchOnewayFlight")
def _flight(a: Asked) -> str:
    there = _flight_on(a, "origin_airport", "destination_airport", "departure_date")
    return f"{there} {_fare(a, 1)}"


@says("Flights_4_SearchRoundtripFlights")
def _flights(a: Asked) -> str:
    there = _flight_on(a, "origin_airport", "destination_airport", "departure_date")
    back = _flight_on(a, "destination_airport", "origin_airport", "return_date")
    return f"{there} {back} {_fare(a, 2)}"


def _flight_on(a: Asked, origin: str, destination: str, day: str) -> str:
    dice = Dice("flight", a(origin), a(destination), a(day))
    airline = a("airlines") or dice.pick(AIRLINES)
    letters = "".join(word[0] for word in airline.split())[:2].upper()
    return (
        f"{a(origin)} to {a(destination)} on {a.day(day)}: {airline} {letters}"
        f"{dice.number(100, 999)} leaves at {dice.time(6, 21)} and takes "
        f"{dice.number(1, 9)} h {dice.number(0, 59):02d}."
    )


def _fare(a: Asked, ways: int) -> str:
    dice = Dice("fare", a("origin_airport"), a("destination_airport"))
    seat = a("seating_class", "Economy")
    factor = {"premium economy": 2, "business": 4}.get(seat.lower(), 1)
    count = a.number("number_of_tickets")
    price = dice.number(90, 420) * ways * factor
    return f"{seat}, {_tickets(count)}: ${price * count:,}."


@says("Homes_2_FindHomeByArea")
def _homes(a: Asked) -> str:
    dice = Dice("homes", a("area"), a("intent"), a("number_of_beds"), a("number_of_baths"))
    rent = a("intent", "rent").lower() == "rent"
    price = f"${dice.number(14, 48) * 100:,} a month" if rent else f"${dice.number(28, 95)}0,000"
    has = _having(("has_garage", "a garage"), ("in_unit_laundry", "laundry in the unit"), a=a)
    return (
        f"To {a('intent', 'rent')} in {a('area')}: {_tree('homes', a('area'))} Court, "
        f"{dice.number(10, 900)} {dice.pick(STREETS)}, {a.number('number_of_beds')} bedrooms, "
        f"{a.number('number_of_baths')} bathrooms{has}, {price}."
    )


@says("Homes_2_ScheduleVisit")
def _visit(a: Asked) -> str:
    count = a.number("visitor_count")
    access = " Step-free access is arranged." if a.yes("accessibility_requirements") else ""
    return (
        f"A visit to {a('property_name')} is booked for {a.day('visit_date')} at "
        f"{Dice('visit', a('property_name'), a('visit_date')).time(9, 18)}, "
        f"{count} visitor{_s(count)}.{access}"
    )


@says("Hotels_2_SearchHouse")
def _houses(a: Asked) -> str:
    dice = Dice("houses", a("where_to"))
    rating = max(a.number("rating", 0), dice.number(3, 5))
    has = _having(("has_laundry_service", "laundry service"), a=a)
    return (
        f"In {a('where_to')}: the {_tree('house', a('where_to'))} House, {rating} of 5 stars, for "
        f"{a.number('number_of_adults')} adult{_s(a.number('number_of_adults'))}{has}, "
        f"${dice.number(70, 260)} a night; its owner is {_person('house', a('where_to'))}."
    )


@says("Hotels_2_BookHouse")
def _house_booked(a: Asked) -> str:
    return (
        f"Booked: the {_tree('house', a('where_to'))} House in {a('where_to')} from "
        f"{a.day('check_in_date')} to {a.day('check_out_date')} for "
        f"{a.number('number_of_adults')} adult{_s(a.number('number_of_adults'))}. "
        f"{_confirmed('house', a)}"
    )


@says("Hotels_4_SearchHotel")
def _hotels(a: Asked) -> str:
    dice = Dice("hotels", a("location"))
    stars = a.number("star_rating", 0) or dice.number(3, 5)
    smoking = "smoking rooms" if a.yes("smoking_allowed") else "no smoking"
    return (
        f"In {a('location')}: Hotel {_tree('hotel', a('location'))} on {dice.pick(STREETS)}, "
        f"{stars} stars, {smoking}, {a.number('number_of_rooms')} room"
        f"{_s(a.number('number_of_rooms'))} free at ${dice.number(80, 320)} a night."
    )


@says("Hotels_4_ReserveHotel")
def _hotel_reserved(a: Asked) -> str:
    rooms, nights = a.number("number_of_rooms"), a.number("stay_length")
    return (
        f"Reserved: {rooms} room{_s(rooms)} at {a('place_name', 'a hotel')} in "
        f"{a('location', 'town')} from {a.day('check_in_date')} for {nights} night{_s(nights)}. "
        f"{_confirmed('hotel', a)}"
    )


@says("Media_3_FindMovies")
def _films_online(a: Asked) -> str:
    dice = Dice("online", a("genre"), a("starring"))
    first, second = dice.some(FILMS, 2)
    star = f" with {a('starring')}" if a("starring") else ""
    return f'{a("genre", "Any genre")}{star}: "{first}" and "{second}" can be streamed.'


@says("Media_3_PlayMovie")
def _film_played(a: Asked) -> str:
    return f'Playing "{a("title")}" with {a("subtitle_language", "English")} subtitles.'


@says("Messaging_1_ShareLocation")
def _location_shared(a: Asked) -> str:
    return f"{a('contact_name')} can see your location: {a('location')}."


@says("Movies_1_BuyMovieTickets")
def _films_bought(a: Asked) -> str:
    return (
        f'Bought: {_tickets(a.number("number_of_tickets"))} for "{a("movie_name")}" '
        f"({a('show_type', 'regular')}) in {a('location')} on {a.day('show_date')} at "
        f"{a('show_time')}. {_confirmed('film', a)}"
    )


@says("Movies_1_FindMovies")
def _films_showing(a: Asked) -> str:
    dice = Dice("showing", a("location"), a("genre"), a("show_type"))
    first, second = dice.some(FILMS, 2)
    theater = a("theater_name") or f"{_tree('cinema', a('location'))} Cinema"
    genre = f" {a('genre')}" if a("genre") else ""
    return (
        f"Showing{genre} at {theater} in {a('location')} ({a('show_type', 'regular')}): "
        f'"{first}" and "{second}".'
    )


@says("Movies_1_GetTimesForMovie")
def _film_times(a: Asked) -> str:
    dice = Dice("times", a("movie_name"), a("location"), a("show_date"), a("show_type"))
    times = ", ".join(sorted({dice.time(13, 17), dice.time(17, 20), dice.time(20, 23)}))
    theater = a("theater_name")
    if theater in ("", "Any Theater"):
        theater = f"{_tree('cinema', a('location'))} Cinema"
    return (
        f'"{a("movie_name")}" at {theater} in {a("location")} on {a.day("show_date")} '
        f"({a('show_type', 'regular')}): {times}."
    )


@says("Movies_3_FindMovies")
def _films_liked(a: Asked) -> str:
    dice = Dice("films", a("genre"), a("directed_by"), a("cast"))
    first, second = dice.some(FILMS, 2)
    director = a("directed_by") or _person("director", first)
    star = a("cast") or _person("star", first)
    return (
        f'{a("genre", "Any genre")}: "{first}", directed by {director} with {star}; '
        f'also "{second}".'
    )


@says("Music_3_LookupMusic")
def _music_found(a: Asked) -> str:
    dice = Dice("music", a("artist"), a("album"), a("genre"), a("year"))
    first, second = dice.some(SONGS, 2)
    artist = a("artist") or dice.pick(BANDS)
    album = a("album") or dice.pick(SONGS)
    year = a("year") or str(dice.number(2010, 2023))
    genre = f", {a('genre')}" if a("genre") else ""
    return f'"{first}" and "{second}" by {artist}, from "{album}" ({year}{genre}).'


@says("Music_3_PlayMedia")
def _music_played(a: Asked) -> str:
    by = f" by {a('artist')}" if a("artist") else ""
    album = f' from "{a("album")}"' if a("album") else ""
    return f'Playing "{a("track")}"{by}{album} on the {a("device", "Living room")} player.'


@says("Payment_1_MakePayment")
def _paid(a: Asked) -> str:
    return (
        f"Paid: ${a.price('amount')} to {a('receiver')} by {a('payment_method', 'app balance')}"
        f"{_private(a)}. {_confirmed('payment', a)}"
    )


@says("Payment_1_RequestPayment")
def _payment_asked(a: Asked) -> str:
    return f"{a('receiver')} was asked to pay ${a.price('amount')}{_private(a)}."


@says("RentalCars_3_GetCarsAvailable")
def _cars(a: Asked) -> str:
    dice = Dice("cars", a("city"), a("start_date"), a("car_type"))
    car = a("car_type") or dice.pick(("Hatchback", "Sedan", "SUV"))
    return (
        f"In {a('city')} from {a.day('start_date')} at {a('pickup_time')} to {a.day('end_date')}: "
        f"{dice.number(1, 6)} cars of type {car}, from ${dice.number(28, 95)} a day, at "
        f"{dice.pick(STREETS)}."
    )


@says("RentalCars_3_ReserveCar")
def _car_reserved(a: Asked) -> str:
    insured = "with" if a.yes("add_insurance") else "without"
    return (
        f"Reserved: a {a('car_type', 'car')} in {a('pickup_location')} from "
        f"{a.day('start_date')} at {a('pickup_time')} to {a.day('end_date')}, {insured} insurance. "
        f"{_confirmed('car', a)}"
    )


@says("Restaurants_2_FindRestaurants")
def _restaurants(a: Asked) -> str:
    dice = Dice("restaurants", a("category"), a("location"), a("price_range"))
    price = a("price_range") or dice.pick(("cheap", "moderate", "pricey"))
    has = _having(
        ("has_vegetarian_options", "vegetarian dishes"),
        ("has_seating_outdoors", "seats outdoors"),
        a=a,
    )
    return (
        f"{a('category', 'Good')} food in {a('location')}: {_person('cook', a('location'))}'s "
        f"{_tree('table', a('location'))} Table, {dice.pick(STREETS)}, {price}{has}, known for its "
        f"{dice.pick(DISHES)}."
    )


@says("Restaurants_2_ReserveRestaurant")
def _table_reserved(a: Asked) -> str:
    seats = a.number("number_of_seats")
    return (
        f"Reserved: a table for {seats} at {a('restaurant_name')} in {a('location')} on "
        f"{a.day('date')} at {a('time')}. {_confirmed('table', a)}"
    )


@says("RideSharing_2_GetRide")
def _ride(a: Asked) -> str:
    dice = Dice("ride", a("destination"), a("ride_type"))
    seats = a.number("number_of_seats")
    return (
        f"A {a('ride_type', 'Regular')} ride for {seats} to {a('destination')} comes in "
        f"{dice.number(3, 14)} minutes, about ${dice.number(9, 48)}; the driver is "
        f"{_person('driver', a('destination'))}."
    )


@says("Services_1_FindProvider")
def _salons(a: Asked) -> str:
    unisex = " unisex" if a.yes("is_unisex") else ""
    dice = Dice("salon", a("city"))
    return (
        f"In {a('city')}: the{unisex} salon {_tree('salon', a('city'))} & Comb, "
        f"{dice.number(10, 400)} {dice.pick(STREETS)}, rated {dice.number(38, 50) / 10:.1f}; ask "
        f"for {_person('stylist', a('city'))}."
    )


@says("Services_1_BookAppointment")
@says("Services_4_BookAppointment")
def _appointment(a: Asked) -> str:
    whom = a("stylist_name") or a("therapist_name")
    return (
        f"Booked: {whom} on {a.day('appointment_date')} at {a('appointment_time')}. "
        f"{_confirmed('appointment', a)}"
    )


@says("Services_4_FindProvider")
def _therapists(a: Asked) -> str:
    dice = Dice("therapist", a("city"), a("type"))
    insured = ", takes insurance" if a.yes("accepts_insurance") else ""
    return (
        f"{a('type', 'Therapist')} in {a('city')}: {_person(a('type'), a('city'))}, "
        f"{dice.number(10, 400)} {dice.pick(STREETS)}{insured}; next free on a "
        f"{dice.pick(('Monday', 'Tuesday', 'Thursday', 'Friday'))} at {dice.time(9, 17)}."
    )


@says("Trains_1_FindTrains")
def _trains(a: Asked) -> str:
    dice = Dice("train", a("_from"), a("to"), a("date_of_journey"))
    first, second = sorted([dice.time(6, 13), dice.time(13, 22)])
    count = a.number("number_of_adults")
    price = dice.number(25, 140) * {"flexible": 2, "business": 3}.get(a("_class").lower(), 1)
    return (
        f"Trains {_route(a('_from'), a('to'))} on {a.day('date_of_journey')} leave at {first} and "
        f"{second}; {a('_class', 'Value')}, {_tickets(count)}: ${price * count:,}."
    )


@says("Trains_1_GetTrainTickets")
def _train_bought(a: Asked) -> str:
    safe = " with trip protection" if a.yes("trip_protection") else ""
    return (
        f"Bought: {_tickets(a.number('number_of_adults'))} ({a('_class', 'Value')}){safe} "
        f"{_route(a('_from'), a('to'))} on {a.day('date_of_journey')} at "
        f"{a('journey_start_time')}. {_confirmed('train', a)}"
    )


@says("Travel_1_FindAttractions")
def _sights(a: Asked) -> str:
    dice = Dice("sights", a("location"), a("category"))
    first, second = dice.some(SIGHTS, 2)
    kind = f" ({a('category')})" if a("category") else ""
    has = _having(("free_entry", "free entry"), ("good_for_kids", "good for children"), a=a)
    return f"In {a('location')}{kind}: the {first} and the {second}{has}."


@says("Weather_1_GetWeather")
@says("get_current_weather")
def _weather(a: Asked) -> str:
    city = a("city") or a("location")
    dice = Dice("weather", city, a("date"))
    low = dice.number(-4, 18)
    return (
        f"{city} on {a.day('date')}: {dice.pick(SKIES)}, {low} to {low + dice.number(4, 12)} "
        f"°C, {dice.number(0, 90)} % chance of rain, wind {dice.number(3, 35)} km/h."
    )


def _route(start: str, end: str) -> str:
    return f"from {start} to {end}"


def _tickets(count: int) -> str:
    return f"{count} ticket{_s(count)}"


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _tree(kind: str, place: str) -> str:
    return Dice(kind, place).pick(TREES)


def _person(kind: str, place: str) -> str:
    dice = Dice(kind, place)
    return f"{dice.pick(FIRST)} {dice.pick(LAST)}"


def _private(a: Asked) -> str:
    return ", privately" if a.yes("private_visibility") else ""


def _having(*wishes: tuple[str, str], a: Asked) -> str:
    found = [words for name, words in wishes if a.yes(name)]
    return f", {' and '.join(found)}" if found else ""


def _confirmed(kind: str, a: Asked) -> str:
    return f"Confirmation {Dice(kind, a.every()).code()}."
