"""Calls that lead nowhere: the same one, with the same result, again and again."""

import hashlib

SAME = 3
"""In how many turns of a model the same call may give the same result before it is made no more."""


class Repeats:
    """In how many turns of one run each call gave the result that it gave last.

    A turn is what a model asks for at once: a program that it wrote may call in a loop.
    """

    __slots__ = ("_seen", "turn")

    def __init__(self) -> None:
        self.turn = 0
        """Counted by whoever asks the model."""
        self._seen: dict[tuple[str, str], _Seen] = {}

    def stuck(self, name: str, arguments: str) -> bool:
        """Whether this call was made in `SAME` earlier turns and told the same in each."""
        seen = self._seen.get((name, arguments))
        return seen is not None and seen.turns >= SAME and seen.turn < self.turn

    def told(self, name: str, arguments: str, result: str) -> None:
        """Notes the result of a call."""
        mark = _mark(result)
        seen = self._seen.get((name, arguments))
        if seen is None or seen.mark != mark:
            self._seen[name, arguments] = _Seen(mark, self.turn)
        elif seen.turn < self.turn:
            seen.turns += 1
            seen.turn = self.turn


class _Seen:
    """The last result of a call, and the turns in a row that gave it."""

    __slots__ = ("mark", "turn", "turns")

    def __init__(self, mark: tuple[int, bytes], turn: int) -> None:
        self.mark = mark
        self.turn = turn
        self.turns = 1


def _mark(result: str) -> tuple[int, bytes]:
    # Of both ends: long results that differ only in between are rare, and cost time.
    ends = (result[:5000] + result[-5000:]).encode("utf-8", "surrogatepass")
    return len(result), hashlib.blake2b(ends, digest_size=8).digest()
