"""Phone numbers, cards (by Luhn's sum) and IBANs (by their remainder 97).

Where a number may be a date, a price or an id as well as a phone number, it stays unless it is
written as a phone number or called one.
"""

import re
from collections.abc import Callable
from functools import partial

from kickwheel.core.redact.names import Names

_SEP = r"[ .\-/\u00a0\u2011\u2013]"
RUN = re.compile(r"\d[\d ().\-/\u00a0\u2011\u2013]{5,}\d", re.ASCII)
_LONG_RUN = re.compile(r"\d(?:[ ().\-/\u00a0\u2011\u2013]{0,3}\d){8}", re.ASCII)
_OF_A_RUN = bytes(
    ord("1" if byte in b"0123456789 ().-/\xa0?" else "x") for byte in range(256)
)  # In Latin-1, where "?" stands for what that lacks.
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ \u00a0-]?[A-Za-z0-9]){11,30}", re.ASCII)
_INTERNATIONAL = re.compile(
    rf"(?<![\w+])(?:\+|(?<!\d{_SEP})00(?=[1-9]\d?{_SEP}))\d{{1,4}}(?:{_SEP}?\(?\d{{1,14}}\)?){{1,7}}(?!\w)",
    re.ASCII,
)
_AMERICAN = re.compile(
    rf"""(?<![\w+])(?<!\d{_SEP})(?:1[ .-])?
        (?:(?:\(\d{{3}}\)[ ]?|\d{{3}}[.\-\u2011])\d{{3}}[ .\-\u2011]
          |[2-9]\d{{2}}[ ][2-9]\d{{2}}[ ])\d{{4}}(?!\w)(?![.\-]\d)""",
    re.VERBOSE | re.ASCII,
)
_NATIONAL = re.compile(
    rf"(?<![\w+])(?<!\d{_SEP})\(?0[1-9]\d{{0,4}}\)?(?:{_SEP}\d{{2,8}}){{1,5}}(?!\w)", re.ASCII
)
_CALLED = (
    "phone",
    "telefon",
    "tel",
    "mobile",
    "cell",
    "fax",
    "whatsapp",
    "sms",
    "handy",
    "call ",
    "text ",
    "reach ",
)
_AFTER_A_WORD = re.compile(
    r"""((?:phone|telefon|\btel|mobile|\bcell|\bfax|whatsapp|\bsms|\bhandy
        |\b(?:call|text|reach)\s+(?:me|us|him|her|them)\s+(?:at|on|under))
        (?:[ ._-]?(?:number|no|nr))?\b[^\d\n+(,;{}]{0,16})
        (\+?\(?\d[\d ().\-/]{5,}\d)(?!\w)""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_DATE = re.compile(
    r"(?<!\d)(?:(?:19|20)\d\d[./-]\d\d?[./-]\d\d?|\d\d?[./-]\d\d?[./-](?:19|20)\d\d"
    r"|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01]))(?!\d)"
)
PHONE_NAME = re.compile(r"phone|mobile|telefon|whatsapp|(?:^|_)(?:tel|fax|cell|sms)(?:_|$)")
"""What phone numbers stand under in JSON, in lower case."""

# Length of an IBAN by country: SWIFT's IBAN registry, release 99.
_IBAN_LENGTH = {
    country: int(length)
    for country, length in re.findall(
        r"(\D\D)(\d\d)",
        "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29"
        "ES24FI18FK18FO18FR27GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20"
        "LB28LC32LI21LT20LU20LV21LY25MC27MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29"
        "PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25SV28TL23TN24TR26UA29VA22VG24XK20"
        "YE30",
    )
}


def hide(value: str, lower: str, names: Names) -> str:
    """The text with placeholders for the numbers in it.

    Args:
        lower: the text in lower case.
    """
    if _LONG_RUN.search(value) is not None:
        value = _IBAN.sub(partial(_iban, names), value)
        value = RUN.sub(partial(_cards, names), value)
        value = _AMERICAN.sub(_phone(10, 11, names), value)
        value = _NATIONAL.sub(_phone(9, 12, names), value)
    if "+" in value or "00" in value:
        value = _INTERNATIONAL.sub(_phone(8, 15, names), value)
    if any(map(lower.__contains__, _CALLED)):
        value = _AFTER_A_WORD.sub(
            lambda m: m[1] + names.number("phone", m[2]) if is_phone(m[2]) else m[0], value
        )
    return RUN.sub(partial(_known, names), value) if names.numbers else value


def is_phone(value: str) -> bool:
    """Whether the value may be a phone number, where its name or the word before it says so."""
    digits = sum(letter.isdigit() for letter in value)
    written = re.fullmatch(r"\+?[\d ().\-/\u00a0\u2011\u2013]+", value)
    return bool(written) and 7 <= digits <= 15 and not _DATE.search(value)


def has_run(text: str) -> bool:
    """Whether something in the text is written as numbers are."""
    # Seven of a run's characters one after another are found ten times as fast as a run, and no
    # run begins before them.
    near = text.encode("latin-1", "replace").translate(_OF_A_RUN).find(b"1111111")
    return near >= 0 and RUN.search(text, near) is not None


def _iban(names: Names, match: re.Match[str]) -> str:
    length = _IBAN_LENGTH.get(match[0][:2].upper())
    ends = [i for i, letter in enumerate(match[0], 1) if letter.isalnum()]
    if length is None or len(ends) < length:
        return match[0]
    found = match[0][: ends[length - 1]]
    rest = match[0][len(found) :]
    bare = re.sub(r"[^A-Za-z0-9]", "", found).upper()
    if rest[:1].isalnum() or int("".join(str(int(c, 36)) for c in bare[4:] + bare[:4])) % 97 != 1:
        return match[0]
    return names.name("iban", bare, found) + rest


def _cards(names: Names, match: re.Match[str]) -> str:
    run, before = match[0], match.string[match.start() - 1 : match.start()]
    groups = list(re.finditer(r"\d+", run))
    if before.isalnum() or sum(len(group[0]) for group in groups) < 14:
        return run
    pieces, kept, first = [], 0, 0
    while first < len(groups):
        last = _card(run, groups, first)
        if last is not None:
            start, end = groups[first].start(), groups[last].end()
            pieces += [run[kept:start], names.number("card", run[start:end])]
            kept, first = end, last
        first += 1
    return "".join([*pieces, run[kept:]])


def _card(run: str, groups: list[re.Match[str]], first: int) -> int | None:
    """The last of the groups of digits that make a card's number from the `first` on."""
    bare = ""
    for last in range(first, len(groups)):
        if last > first and run[groups[last - 1].end() : groups[last].start()] not in (" ", "-"):
            return None
        bare += groups[last][0]
        if len(bare) > 19:
            return None
        if len(bare) >= 14 and _is_card(bare):
            return last
    return None


def _is_card(digits: str) -> bool:
    """Whether a payment network gives out such numbers (ISO/IEC 7812) and Luhn's sum is right."""
    length, six = len(digits), int(digits[:6])
    known = (
        (length in (16, 19) and digits[0] == "4")
        or (length == 16 and (51 <= six // 10_000 <= 55 or 222_100 <= six <= 272_099))
        or (length == 15 and six // 10_000 in (34, 37))
        or (length == 14 and six // 10_000 in (30, 36, 38, 39))
        or (length == 16 and 3528 <= six // 100 <= 3589)
        or (
            16 <= length <= 19
            and (six // 10_000 in (62, 65) or six // 100 == 6011 or 644 <= six // 1000 <= 649)
        )
    )
    if not known:
        return False
    doubled = [sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(int(digit) for digit in digits[-1::-2])) % 10 == 0


def _phone(least: int, most: int, names: Names) -> Callable[[re.Match[str]], str]:
    def replaced(match: re.Match[str]) -> str:
        digits = sum(letter.isdigit() for letter in match[0])
        if not least <= digits <= most or _DATE.search(match[0]):
            return match[0]
        return names.number("phone", match[0])

    return replaced


def _known(names: Names, match: re.Match[str]) -> str:
    if match.string[match.start() - 1 : match.start()].isalnum():
        return match[0]
    name = names.known(re.sub(r"\D", "", match[0]))
    return match[0] if name is None else name
