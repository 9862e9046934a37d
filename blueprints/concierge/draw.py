"""What a made-up world is drawn from: the arguments of a call, and dice that always fall alike."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

SEED = "concierge"


class Asked:
    """The arguments of a call, as the world reads them."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._arguments = {
            name: value
            for name, value in arguments.items()
            if value is not None and str(value).lower() not in ("", "dontcare", "any")
        }

    def __call__(self, name: str, otherwise: str = "") -> str:
        """An argument as text."""
        value = self._arguments.get(name, otherwise)
        return str(value).strip()

    def number(self, name: str, otherwise: int = 1) -> int:
        """An argument as a number."""
        try:
            return int(float(self._arguments.get(name, otherwise)))
        except (TypeError, ValueError):
            return otherwise

    def price(self, name: str) -> str:
        """An argument as an amount of money, `1,200.00`; what is none as it stands."""
        try:
            return f"{float(self(name)):,.2f}"
        except ValueError:
            return self(name)

    def yes(self, name: str) -> bool:
        """An argument as yes or no."""
        return str(self._arguments.get(name, False)).lower() == "true"

    def day(self, name: str, otherwise: str = "today") -> str:
        """A date as people say it, `March 25, 2023`; what is no date as it stands."""
        text = self(name)
        for form in ("%Y-%m-%d", "%m/%d/%Y"):
            try:
                found: date = datetime.strptime(text, form)
            except ValueError:
                continue
            return f"{found:%B} {found.day}, {found.year}"
        return text or otherwise

    def every(self) -> str:
        """All arguments, for what no one has words for."""
        return ", ".join(f"{name} {value}" for name, value in sorted(self._arguments.items()))


class Dice:
    """Draws that depend on what they are about, and on nothing else."""

    def __init__(self, *about: object) -> None:
        self._about = "|".join([SEED, *(str(part).lower() for part in about)])
        self._drawn = 0

    def number(self, low: int, high: int) -> int:
        """A number from `low` to `high`, both possible."""
        self._drawn += 1
        digest = hashlib.sha256(f"{self._about}|{self._drawn}".encode()).digest()
        return low + int.from_bytes(digest[:8], "big") % (high - low + 1)

    def pick(self, options: Sequence[str]) -> str:
        """One of the options."""
        return options[self.number(0, len(options) - 1)]

    def some(self, options: Sequence[str], count: int) -> list[str]:
        """Different ones of the options, in their order."""
        left = list(options)
        picked = {left.pop(self.number(0, len(left) - 1)) for _ in range(min(count, len(left)))}
        return [option for option in options if option in picked]

    def time(self, first: int, last: int) -> str:
        """A time of day on the quarter of an hour, from `first` to before `last` o'clock."""
        return f"{self.number(first, last - 1):02d}:{15 * self.number(0, 3):02d}"

    def code(self) -> str:
        """A confirmation code."""
        return "".join(self.pick("ABCDEFGHJKLMNPQRSTUVWXYZ23456789") for _ in range(6))
