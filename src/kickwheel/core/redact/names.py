"""The placeholders of one conversation: equal values get equal ones."""

import re
from collections.abc import Mapping

_PLACEHOLDER = re.compile(r"<(?:email|phone|card|iban|key)_\d+>")


def redacted(value: str) -> bool:
    """Whether a placeholder stands in the text."""
    return "<" in value and _PLACEHOLDER.search(value) is not None


def placeholders(value: str) -> dict[str, int]:
    """The highest number of each kind of placeholder in the text: `{"email": 2}`."""
    found: dict[str, int] = {}
    for one in _PLACEHOLDER.findall(value) if "<" in value else ():
        kind, _, number = one[1:-1].rpartition("_")
        found[kind] = max(found.get(kind, 0), int(number))
    return found


class Names:
    """What each hidden value of a conversation is called."""

    __slots__ = ("_given", "_names", "_taken", "numbers")

    def __init__(self) -> None:
        self.numbers: dict[str, str] = {}
        """Placeholders of phones and cards, by their digits."""
        self._names: dict[tuple[str, str], str] = {}
        self._taken: set[str] = set()
        self._given: dict[str, int] = {}

    @property
    def given(self) -> dict[str, int]:
        """The highest number that a placeholder of each kind has."""
        return dict(self._given)

    def after(self, given: Mapping[str, int]) -> None:
        """Leaves these numbers, which were given elsewhere, out."""
        for kind, number in given.items():
            self._given[kind] = max(number, self._given.get(kind, 0))

    def take(self, value: str) -> None:
        """Leaves the placeholders that somebody wrote into the text out."""
        self._taken.update(_PLACEHOLDER.findall(value))

    def name(self, kind: str, value: str, written: str) -> str:
        """The placeholder of a value.

        Args:
            value: what is the same for all ways of writing it.
            written: as it stands in the text; a placeholder stays what it is.
        """
        if _PLACEHOLDER.fullmatch(written):
            return written
        key = (kind, value)
        while key not in self._names:
            self._given[kind] = self._given.get(kind, 0) + 1
            name = f"<{kind}_{self._given[kind]}>"
            if name not in self._taken:
                self._names[key] = name
        return self._names[key]

    def number(self, kind: str, written: str) -> str:
        """The placeholder of a phone's or a card's number."""
        digits = re.sub(r"\D", "", written)
        name = self.known(digits)
        if name is None:
            name = self.numbers[digits] = self.name(kind, digits, written)
        return name

    def known(self, digits: str) -> str | None:
        """The placeholder of a number that has one."""
        if digits in self.numbers:
            return self.numbers[digits]
        # With and without the country's code or the leading 0 it is one number.
        bare = digits.lstrip("0")
        for known, name in self.numbers.items():
            other = known.lstrip("0")
            short, long = sorted((bare, other), key=len)
            if short == long or (
                len(short) >= 9 and len(long) - len(short) <= 3 and long.endswith(short)
            ):
                return name
        return None
