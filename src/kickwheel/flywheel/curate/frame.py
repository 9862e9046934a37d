"""What stands around many questions and belongs to none: instructions, examples, a closing line.

Many apps write their prompt into the user's message. Left in, it would make all questions
near-duplicates of each other; so likeness is taken of what it surrounds.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

SHARE = 0.2
"""A beginning or an end is a frame from this share of the questions on, and"""
LEAST = 60
"""from this many characters on: what people begin alike is shorter."""
FEW = 10
"""Questions that must share a frame at least."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Beginnings and ends that many questions share."""

    beginnings: tuple[str, ...] = ()
    """The longest first."""
    ends: tuple[str, ...] = ()

    def inside(self, question: str) -> str:
        """The question without its frame; whole where nothing else would be left."""
        start = next((len(b) for b in self.beginnings if question.startswith(b)), 0)
        rest = question[start:]
        stop = next((len(e) for e in self.ends if rest.endswith(e)), 0)
        return rest[: len(rest) - stop].strip() or question


def frame(questions: Sequence[str]) -> Frame:
    """The frames of questions in plain form."""
    beginnings = _shared(questions)
    ends = _shared([question[::-1] for question in questions])
    return Frame(beginnings, tuple(end[::-1] for end in ends))


def _shared(texts: Sequence[str]) -> tuple[str, ...]:
    ordered = sorted(texts)
    found: set[str] = set()
    width = max(FEW, math.ceil(SHARE * len(ordered)))
    # Texts that begin alike stand side by side once sorted.
    lengths = [_common(a, b) for a, b in zip(ordered, ordered[width - 1 :], strict=False)]
    longest: deque[int] = deque()
    for k, text in enumerate(ordered):
        if k < len(lengths):
            while longest and lengths[longest[-1]] <= lengths[k]:
                longest.pop()
            longest.append(k)
        while longest and longest[0] <= k - width:
            longest.popleft()
        length = lengths[longest[0]] if longest else 0
        beginning = text[: text.rfind(" ", 0, length) + 1]
        if len(beginning) >= LEAST:
            found.add(beginning)
    return tuple(sorted(found, key=lambda text: (-len(text), text)))


def _common(a: str, b: str) -> int:
    """How many characters two texts share at their beginning."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[:middle] == b[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
