"""`kind: cache`: answers that were given before, word for word or nearly.

An answer is shared where everything that it depends on is the same: tenant, model, conversation,
tools, options. `threshold` also allows another wording of the last question, as near in meaning
as it says; then numbers, names and negations must be the same ones, since texts that differ in
those alone are near in every embedding, and the words that both have must stand in one order,
since the mean of their vectors is the same in any.
"""

import asyncio
import logging
import re
import time
import zlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from msgspec import structs
from pydantic import Field

from kickwheel.core import redact
from kickwheel.core.errors import MissingExtra, StoreError
from kickwheel.core.plugins import Context, Name, Part
from kickwheel.core.store import Connection, Database
from kickwheel.models import embedding
from kickwheel.models.chat import (
    CallDelta,
    ChatRequest,
    Collected,
    Delta,
    Done,
    FinishReason,
    Model,
    TextDelta,
    Usage,
)
from kickwheel.models.policies.wrapped import Wrapped, decided, question, reading
from kickwheel.records import Message, wire

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

LONGEST = 64 << 10
"""Bytes of an answer that is kept at most."""
_log = logging.getLogger(__name__)
_FIXED = re.compile(
    r"\d+(?:[.,:/-]\d+)*|[^\W\d_]*n['’]t\b|[^\W\d_]+",
)
_NEGATIONS = (
    "no not never none nothing nobody without except nor neither "
    "nicht kein keine keinen nie niemand nichts ohne"
)
_OPENINGS = (
    "a am an and are as at be but by can could describe did do does explain find for from give "
    "has have he help hello hey hi how i if in is it its let list make may me my now of on or our "
    "please say shall she should show so tell thanks that the their then there these they this "
    "those to was we were what when where which who whom whose why will with would write you your"
)
_ANYWHERE = (
    "a am an and are can could did do does hello hey hi is now please so thanks the will would"
)
"""Words that may stand anywhere in a question without making it another one."""
_negations, _openings = frozenset(_NEGATIONS.split()), frozenset(_OPENINGS.split())
_anywhere = frozenset(_ANYWHERE.split())


class Cache(Part):
    """Gives an answer that was given before, where the same is asked again."""

    model: Annotated[str, Name("models")]
    threshold: Annotated[float, Field(gt=0, le=1)] | None = None
    """How near in meaning the last question may be to one that was asked before, as cosine: 0.95
    is careful. By default only the same words are the same question."""
    entries: Annotated[int, Field(gt=0)] = 10_000
    """Answers that are kept at most; the oldest go first."""
    max_age_s: Annotated[float, Field(gt=0)] = 86_400.0
    """After that time an answer is asked for anew."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["CachedModel"]:
        """The model with its memory."""
        if self.threshold is not None and embedding.embed(["is it there?"]) is None:
            raise MissingExtra(f"models.{context.name} (a cache with a threshold)", "curate")
        kept = Kept(context.store.database, context.name, self.entries, self.max_age_s)
        yield CachedModel(context.name, context.part("models", self.model), kept, self.threshold)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An answer as it is kept."""

    message: Message
    finish_reason: FinishReason
    model: str
    order: tuple[int, ...] = ()
    """Of the question, where another wording may be answered too; see `order`."""


class Kept:
    """The answers of one cache, in the store."""

    def __init__(self, database: Database, name: str, entries: int, max_age_s: float) -> None:
        self._database, self._name = database, name
        self._entries, self._max_age_s = entries, max_age_s
        # Looking for the oldest each time would cost more than a few too many.
        self._slack = max(1, min(64, entries // 16))
        self._added = 0
        self._forget()

    def same(self, key: str) -> Answered | None:
        """The answer to the same question."""
        rows = self._database.read(
            "SELECT body FROM answer WHERE cache = ? AND key = ? AND kept_at > ?",
            (self._name, key, time.time() - self._max_age_s),
        )
        return wire.from_bytes(rows[0][0], Answered) if rows else None

    def near(self, scope: str, vector: "NDArray[numpy.float32]") -> tuple[str, float] | None:
        """Of the questions in the same conversation the nearest in meaning: key, cosine."""
        import numpy

        rows = self._database.read(
            "SELECT key, vector FROM answer WHERE cache = ? AND scope = ? AND kept_at > ?",
            (self._name, scope, time.time() - self._max_age_s),
        )
        if not rows:
            return None
        vectors = numpy.frombuffer(b"".join(row[1] for row in rows), dtype=numpy.float32)
        cosines = vectors.reshape(len(rows), -1) @ vector
        best = int(cosines.argmax())
        return str(rows[best][0]), float(cosines[best])

    def add(self, key: str, scope: str | None, vector: bytes | None, answered: Answered) -> None:
        """Keeps an answer; one that is too long is not kept."""
        body = wire.to_bytes(answered)
        if len(body) > LONGEST:
            return
        row = (self._name, key, scope, vector, body, time.time())
        self._database.write(
            lambda connection: connection.execute(
                "INSERT INTO answer VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (cache, key) DO UPDATE SET scope = excluded.scope, "
                "vector = excluded.vector, body = excluded.body, kept_at = excluded.kept_at",
                row,
            )
        )
        self._added += 1
        if self._added % self._slack == 0:
            self._forget()

    def _forget(self) -> None:
        def write(connection: Connection) -> None:
            connection.execute(
                "DELETE FROM answer WHERE cache = ? AND kept_at <= ?",
                (self._name, time.time() - self._max_age_s),
            )
            connection.execute(
                "DELETE FROM answer WHERE cache = ? AND kept_at <= (SELECT kept_at FROM answer "
                "WHERE cache = ? ORDER BY kept_at DESC LIMIT 1 OFFSET ?)",
                (self._name, self._name, self._entries - self._slack + 1),
            )

        self._database.write(write)


class CachedModel(Wrapped):
    """A model that remembers its answers."""

    def __init__(self, name: str, model: Model, kept: Kept, threshold: float | None) -> None:
        super().__init__(name, model)
        self._kept, self._threshold = kept, threshold

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta]:
        """The answer that is kept, or else the model's, which is kept from then on.

        An answer that was kept used no tokens. Answers that were cut, and those with something in
        them that `core.redact` would hide, are not kept.

        Raises:
            ModelError: as the model.
        """
        key = question(request, self.model)
        if key is None:
            async with reading(self.model.stream(request)) as deltas:
                async for delta in deltas:
                    yield delta
            return
        found, how, place = self._kept.same(key), "the same words", None
        if found is None and self._threshold is not None:
            place = await asyncio.to_thread(self._place, request)
            if place is not None:
                near = await asyncio.to_thread(self._kept.near, *place)
                if near is not None and near[1] >= self._threshold:
                    found, how = self._kept.same(near[0]), f"cosine {near[1]:.3f}"
                    if found is not None and not alike(found.order, order(_last(request))):
                        found = None
        if found is not None:
            decided(f"cache: hit, {how}")
            for delta in _pieces(found):
                yield delta
            return
        decided("cache: miss")
        collected = Collected()
        async with reading(self.model.stream(request)) as deltas:
            async for delta in deltas:
                collected.add(delta)
                if isinstance(delta, Done):
                    await asyncio.to_thread(self._keep, key, place, request, collected)
                yield delta

    def _place(self, request: ChatRequest) -> "tuple[str, NDArray[numpy.float32]] | None":
        """The conversation that the last question stands in, with what must be the same in it,
        and its meaning."""
        last = request.messages[-1] if request.messages else None
        if last is None or last.role != "user" or not last.content or last.images:
            return None
        vectors = embedding.embed([last.content])
        same = Message(role="user", content=" ".join(fixed(last.content)))
        scope = question(
            structs.replace(request, messages=(*request.messages[:-1], same)), self.model
        )
        return None if vectors is None or scope is None else (scope, vectors[0])

    def _keep(
        self,
        key: str,
        place: "tuple[str, NDArray[numpy.float32]] | None",
        request: ChatRequest,
        collected: Collected,
    ) -> None:
        done, message = collected.done, collected.message()
        if done is None or done.finish_reason not in ("stop", "tool_calls"):
            return
        if redact.message(message) is not message:
            return
        if message.tool_calls:
            # A call's arguments are words of the question: another wording, another call.
            place = None
        scope, vector = (place[0], place[1].tobytes()) if place else (None, None)
        answered = Answered(
            message=message,
            finish_reason=done.finish_reason,
            model=done.model,
            order=order(_last(request)) if place else (),
        )
        try:
            self._kept.add(key, scope, vector, answered)
        except StoreError as error:
            # The answer itself is whole: it is given, and asked for again next time.
            _log.warning("%s: an answer was not kept. %s", self.name, error)


def fixed(text: str) -> list[str]:
    """What must be the same in two questions that are near in meaning: numbers, negations, and
    what is written like a name.

    fixed("Isn't Oslo 3 km from here?") is ["3", "isn't", "oslo"]
    """
    found = []
    for word in _FIXED.findall(text):
        lower = word.lower().replace("’", "'")
        negated = lower in _negations or lower.endswith("n't")
        named = word != lower and lower not in _openings
        if word[0].isdigit() or negated or named:
            found.append(lower)
    return sorted(found)


def order(text: str) -> tuple[int, ...]:
    """The words of a question as they come first in it, each as 16 bits of its hash: enough to
    tell «from Oslo to Bergen» from «from Bergen to Oslo», too few to read them."""
    words = re.findall(r"\w+", text.casefold())
    kept = (word for word in dict.fromkeys(words) if word not in _anywhere)
    return tuple(zlib.crc32(word.encode(errors="replace")) & 0xFFFF for word in kept)


def alike(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether the words that both have stand in the same order."""
    both = frozenset(one) & frozenset(other)
    return [word for word in one if word in both] == [word for word in other if word in both]


def _last(request: ChatRequest) -> str:
    return request.messages[-1].content or ""


def _pieces(answered: Answered) -> list[Delta]:
    message = answered.message
    pieces: list[Delta] = [TextDelta(message.content)] if message.content else []
    for index, call in enumerate(message.tool_calls):
        pieces.append(CallDelta(index, call.arguments, call.id, call.name))
    return [*pieces, Done(answered.finish_reason, Usage(cost_usd=0.0), answered.model)]
