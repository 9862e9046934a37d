"""Where an answer ends: at a text that the request names, which is no part of it.

Servers end there themselves. Models that refuse to be told so, as OpenAI's reasoning models do,
write on; their answer ends there when it is read.
"""

from collections.abc import Sequence


class Stops:
    """The text of an answer that comes in pieces, up to the first of the `stops`."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(filter(None, stops))
        self._held = ""
        self.met = False
        """Whether one of them came: nothing after it is part of the answer."""

    def passed(self, piece: str) -> str:
        """What may be told now: what could be the beginning of a stop is held back."""
        if self.met or not self._stops:
            return "" if self.met else piece
        text = self._held + piece
        found = [(text.find(stop) + len(stop), -len(stop)) for stop in self._stops if stop in text]
        if found:
            end, back = min(found)  # The first that is whole, as whoever writes ends there.
            self.met, self._held = True, ""
            return text[: end + back]
        held = max(_begun(text, stop) for stop in self._stops)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def rest(self) -> str:
        """What was held back, once the answer is over: it was no stop."""
        held, self._held = self._held, ""
        return held


def _begun(text: str, stop: str) -> int:
    """How many characters of the stop stand at the end of the text."""
    return next((n for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n])), 0)
