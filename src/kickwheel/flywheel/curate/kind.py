"""Whether answers are calls, JSON, labels or text."""

import json
from collections import Counter
from collections.abc import Sequence

from kickwheel.flywheel.curate.extract import Candidate
from kickwheel.records import AnswerKind

LABEL_CHARS = 60
"""A label's length at most."""
PER_LABEL = 3
"""Examples a label on average at least; with fewer the answers are text."""


def kinds(candidates: Sequence[Candidate]) -> list[AnswerKind]:
    """The kind of each answer. Few distinct short answers to many questions are labels."""
    found: list[AnswerKind] = [_kind(candidate) for candidate in candidates]
    texts = [
        candidate.answer.content or ""
        for candidate, kind in zip(candidates, found, strict=True)
        if kind == "text"
    ]
    if not _are_labels(texts):
        return found
    return [
        "label" if kind == "text" and _short(candidate.answer.content or "") else kind
        for candidate, kind in zip(candidates, found, strict=True)
    ]


def main(found: Sequence[AnswerKind]) -> AnswerKind:
    """The most frequent kind: a dataset has one, since its answers are judged in one way."""
    counted = Counter(found)
    order: list[AnswerKind] = ["call", "json", "label", "text"]
    return max(order, key=lambda kind: (counted[kind], -order.index(kind)))


def _kind(candidate: Candidate) -> AnswerKind:
    if candidate.answer.tool_calls:
        return "call"
    content = candidate.answer.content or ""
    if content[:1] in ("{", "["):
        try:
            json.loads(content)
        except ValueError:
            return "text"
        return "json"
    return "text"


def _are_labels(texts: list[str]) -> bool:
    short = [text for text in texts if _short(text)]
    return (
        len(short) >= 0.95 * len(texts)
        and len(short) >= 2 * PER_LABEL
        and len(set(short)) * PER_LABEL <= len(short)
    )


def _short(text: str) -> bool:
    return len(text) <= LABEL_CHARS and "\n" not in text
