"""Whether two texts say the same, and whether one has from the other what it claims.

Near-duplicates share most of their letters, but a digit or a «not» makes all the difference:
«flight at 5» and «flight at 6» are two facts, and so are «likes tea» and «does not like tea».
"""

import re
import unicodedata
from functools import lru_cache

NEAR = 0.8
"""Jaccard likeness of character 5-grams from which two texts are near-duplicates."""
GROUNDED = 0.6
"""Share of a fact's words that must stand in what it was learned from."""

LOOKED_AT = 20_000
"""Characters of a text that are looked at, when another is compared with it."""

_WORD = re.compile(r"\w+")
_NEGATED = re.compile(
    r"\b(?:not|no|never|none|neither|nor|without|stopped|cannot|can't|cant|\w+n't|\w+n’t|"
    r"nicht|kein\w*|nie|ne|pas|jamais|nunca|hate|hates|dislike|dislikes|avoid|avoids)\b"
)
_ENDING = re.compile(r"(?:ing|ed|es|s|e)$")
_NAME = re.compile(r"(?<!^)(?<![.!?] )\b[A-Z][\w’'-]+")
_STOP = (
    "a about am an and any are as at be been but by can could did do does for from had has have "
    "he her hers him his how i if in is it its just me my of on or our she should so some than "
    "that the their them then there they this to up us user was we were what when where which "
    "who whose why will with would you your please tell know let s m ve re d ll t"
)
STOP = frozenset(_STOP.split())
"""Words that tell nothing by themselves."""


def plain(text: str) -> str:
    """The text as it is compared: one form, without case, single blanks, no closing stop."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(".!")


def words(text: str) -> list[str]:
    """The words that tell something, in plain form."""
    return [word for word in _WORD.findall(plain(text)) if word not in STOP]


@lru_cache(maxsize=8_192)
def grams(text: str) -> frozenset[str]:
    """Character 5-grams of the plain text, with a blank at both ends."""
    padded = f" {plain(text)} "
    return frozenset(padded[i : i + 5] for i in range(max(1, len(padded) - 4)))


def near(a: str, b: str) -> bool:
    """Whether the texts are near-duplicates that say the same."""
    mine, other = grams(a), grams(b)
    if min(len(mine), len(other)) < NEAR * max(len(mine), len(other)):
        return False
    common = len(mine & other)
    return (
        common >= NEAR * (len(mine) + len(other) - common)
        and _numbers(a) == _numbers(b)
        and _negated(a) == _negated(b)
    )


def contained(text: str, within: str) -> float:
    """Which share of the text's letters stands in the other text, 0 to 1."""
    mine = grams(text)
    return len(mine & grams(within[:LOOKED_AT])) / len(mine)


def grounded(text: str, source: str) -> bool:
    """Whether the source says what the text does: most of its words, each number, each name."""
    known = {_stem(word) for word in words(source)}
    told = [_stem(word) for word in words(text)]
    if not told or sum(word in known for word in told) < GROUNDED * len(told):
        return False
    names = {_stem(word) for name in _NAME.findall(text) for word in words(name)}
    return set(_numbers(text)) <= set(_numbers(source)) and names <= known


def _numbers(text: str) -> tuple[str, ...]:
    return tuple(sorted(re.findall(r"\d+", plain(text))))


def _negated(text: str) -> bool:
    return len(_NEGATED.findall(plain(text))) % 2 == 1


def _stem(word: str) -> str:
    """The word without its ending: «lives», «living» and «live» tell the same."""
    return _ENDING.sub("", word) if len(word) > 3 else word
