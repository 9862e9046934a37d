"""One of each question.

A question that was asked again word for word teaches nothing new, and neither does one that is
nearly the same and has the same answer. Nearly the same with another answer («a table for 4», «for
6») is another question: it stays, and `cluster` keeps it on the same side.
"""

import re
from collections import Counter
from collections.abc import Hashable, Sequence

from kickwheel.flywheel.curate.pairs import Pairs

AGAIN = "asked again"
CONTRADICTED = "asked again, with another answer"
NEAR = "nearly the same question, same answer"

_DIGITS = re.compile(r"\d+")


def exact(
    questions: Sequence[Hashable], answers: Sequence[str], trust: Sequence[int]
) -> dict[int, str]:
    """Positions to drop, with the reason: of each question one stays.

    Of those most to be trusted the one with the most frequent answer, of these the first.
    """
    groups: dict[Hashable, list[int]] = {}
    for i, question in enumerate(questions):
        groups.setdefault(question, []).append(i)
    dropped = {}
    for members in groups.values():
        if len(members) == 1:
            continue
        most = max(trust[i] for i in members)
        trusted = [i for i in members if trust[i] == most]
        counted = Counter(answers[i] for i in trusted)
        kept = max(trusted, key=lambda i: (counted[answers[i]], -i))
        for i in members:
            if i != kept:
                dropped[i] = AGAIN if answers[i] == answers[kept] else CONTRADICTED
    return dropped


def near(
    questions: Sequence[str], answers: Sequence[str | None], threshold: float
) -> tuple[dict[int, str], list[tuple[int, int]]]:
    """Positions to drop, with the reason, and the pairs that are nearly the same and stay.

    Args:
        questions: in plain form, those to be kept first first.
        answers: `None` where answers are free text: then near-duplicates with the same digits are
            the same question.
        threshold: likeness from which two questions are nearly the same.
    """
    pairs = Pairs(questions, threshold)
    dropped: dict[int, str] = {}
    edges: list[tuple[int, int]] = []
    for i in range(len(questions)):
        alike = sorted(pairs.like(i))
        if any(_same(i, j, questions, answers) for j in alike):
            dropped[i] = NEAR
        else:
            edges.extend((j, i) for j in alike)
            pairs.add(i)
    return dropped, edges


def _same(i: int, j: int, questions: Sequence[str], answers: Sequence[str | None]) -> bool:
    if answers[i] is None or answers[j] is None:
        return _DIGITS.findall(questions[i]) == _DIGITS.findall(questions[j])
    return answers[i] == answers[j]
