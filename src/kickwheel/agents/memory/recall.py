"""Turns that a window left out, found again: by the window itself, and by the agent's own look.

The window looks for what bears on the question each time, word for word; the tool `recall` pages
through the whole.
"""

import asyncio
import math
import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kickwheel.agents.memory.alike import words
from kickwheel.agents.memory.memory import MARK
from kickwheel.agents.memory.search import fused
from kickwheel.agents.memory.turns import Turns
from kickwheel.agents.tools import InvalidArguments, Limits
from kickwheel.models import embedding
from kickwheel.records import ToolSpec

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

RECALL = "recall"
"""Name of the tool."""
PAGE_CHARS = 4_000
PASSAGE_CHARS = 240
PASSAGES = 200
"""Passages of one message that are looked at; what comes behind them can be paged only."""
ALIKE = 0.3
"""Cosine below which a turn has nothing to do with the question."""
_K1, _B = 1.2, 0.75
_REMEMBERED = 20_000
_SENTENCE = re.compile(r".+?(?:[.!?][\"'”’)\]]*(?=\s)|$)")


def passages(text: str) -> list[str]:
    """The text in pieces of whole sentences, each of `PASSAGE_CHARS` at most.

    A long message bears on many questions with one sentence each.
    """
    pieces: list[str] = []
    for sentence in _SENTENCE.findall(" ".join(text.split())):
        parts = [sentence.strip()]
        if len(sentence) > PASSAGE_CHARS:
            parts = textwrap.wrap(sentence, PASSAGE_CHARS)
        for part in parts:
            if pieces and len(pieces[-1]) + len(part) < PASSAGE_CHARS:
                pieces[-1] = f"{pieces[-1]} {part}"
            elif part:
                pieces.append(part)
        if len(pieces) >= PASSAGES:
            break
    return pieces


class Bearing:
    """Which of many texts bear on a question; those that were seen before cost little."""

    def __init__(self) -> None:
        self._words: dict[str, Counter[str]] = {}
        self._vectors: dict[str, NDArray[numpy.float32]] = {}

    def ranked(self, question: str, texts: Sequence[str]) -> list[int]:
        """Positions of the texts that bear on the question, best first.

        BM25 over their words and the cosine of their vectors, by reciprocal rank fusion.
        Source: Robertson, Zaragoza (2009), The Probabilistic Relevance Framework: BM25 and Beyond.
        """
        scores = fused([self._by_words(question, texts), self._by_meaning(question, texts)])
        return sorted(scores, key=lambda i: (-scores[i], -i))

    def _by_words(self, question: str, texts: Sequence[str]) -> list[int]:
        if len(self._words) > _REMEMBERED:
            self._words.clear()
        bags = []
        for text in texts:
            bag = self._words.get(text)
            if bag is None:
                bag = self._words[text] = Counter(words(text))
            bags.append(bag)
        asked = set(words(question))
        mean = sum(map(Counter.total, bags)) / max(1, len(bags)) or 1.0
        worth = {}
        for word in asked:
            holds = sum(word in bag for bag in bags)
            worth[word] = math.log(1 + (len(bags) - holds + 0.5) / (holds + 0.5))
        scores = []
        for bag in bags:
            size = _K1 * (1 - _B + _B * bag.total() / mean)
            scores.append(sum(worth[w] * bag[w] * (_K1 + 1) / (bag[w] + size) for w in asked))
        return sorted((i for i, s in enumerate(scores) if s > 0), key=lambda i: (-scores[i], -i))

    def _by_meaning(self, question: str, texts: Sequence[str]) -> list[int]:
        if len(self._vectors) > _REMEMBERED:
            self._vectors.clear()
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        vectors = embedding.embed([question, *new])
        if vectors is None or not texts:
            return []
        import numpy

        self._vectors.update(zip(new, vectors[1:], strict=True))
        cosines = numpy.stack([self._vectors[text] for text in texts]) @ vectors[0]
        order = numpy.argsort(-cosines, kind="stable")
        return [int(i) for i in order if cosines[i] >= ALIKE]


class Recall:
    """The tool that reads what windows left out; only the caller's own."""

    limits = Limits(effects="none")
    spec = ToolSpec(
        name=RECALL,
        description="Read earlier messages or results that were left out to save room.",
        parameters={
            "type": "object",
            "properties": {
                "resource": {
                    "type": "string",
                    "description": "As the conversation names it, such as turns-3f2a or "
                    "result-3f2a.",
                },
                "query": {"type": "string", "description": "Show only what bears on this."},
                "start": {"type": "integer", "minimum": 0, "description": "Character to start at."},
            },
            "required": ["resource"],
        },
    )

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._bearing = Bearing()

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """A page of the resource, or the parts of it that bear on the query."""
        resource = str(arguments["resource"]).strip()
        texts = await asyncio.to_thread(self._read, resource)
        if not texts:
            raise InvalidArguments(
                f'nothing is kept as resource "{resource}". Take a name that the conversation '
                "gives, as turns-… or result-…"
            )
        query = str(arguments.get("query") or "")
        if query:
            best = self._bearing.ranked(query, texts)
            texts = [texts[i] for i in best[:20]]
        whole = "\n".join(texts)
        start = min(int(arguments.get("start") or 0), len(whole))
        page = whole[start : start + PAGE_CHARS]
        left = len(whole) - start - len(page)
        more = f"; go on with start={start + len(page)}" if left else ""
        about = f"characters {start:,} to {start + len(page):,} of {len(whole):,}{more}"
        return f"{MARK} {resource}, {about}]\n{page}"

    def _read(self, resource: str) -> list[str]:
        kind, _, name = resource.partition("-")
        if kind == "result":
            kept = self._turns.one(name)
            return kept.text.splitlines() if kept else []
        if kind == "turns":
            return [f"{kept.role}: {kept.text}" for kept in self._turns.until(name)]
        return []
