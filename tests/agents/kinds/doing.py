"""Tools for the tests of the kinds."""

import asyncio

booked: list[str] = []


def weather(city: str) -> str:
    """Tells the weather.

    Args:
        city: the city's name.
    """
    return {"Oslo": "sunny", "Rome": "rainy"}[city]


async def fare(start: str, end: str, seats: int = 1) -> int:
    """The fare of a trip in euros."""
    await asyncio.sleep(0.01)
    return seats * (len(start) + len(end))


def book(city: str) -> str:
    """Books a room."""
    booked.append(city)
    return f"room in {city}"
