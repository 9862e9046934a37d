"""Texts as vectors, for whoever asks: `kind: embedding`, a model of ours with nothing to download.

models: {words: {kind: embedding}}
"""

import asyncio
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import msgspec

from kickwheel.core.errors import MissingExtra, ModelError
from kickwheel.core.plugins import Context, Part
from kickwheel.models.chat import ChatRequest, Delta
from kickwheel.models.embedding import embed, embed_counted

DIMENSIONS = (256, 128, 64)
"""Lengths that a vector may be cut to: `wordllama` was trained so that its first numbers tell most.
Source: its README, "Matryoshka Representations"."""
_EXTRA = "memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """Texts as vectors."""

    vectors: "Sequence[array[float]]"
    """One for each text, of float32."""
    tokens: int
    """Of all texts together."""


class Embeds(Protocol):
    """A model that makes vectors."""

    name: str

    async def embedded(self, texts: Sequence[str], dimensions: int | None = None) -> Embedded:
        """The texts as vectors, in their order.

        Raises:
            ModelError: it did not answer, or makes no vectors of so many dimensions (400).
        """


class Embedding(Part):
    """A small embedding model on this machine: 256 numbers a text, by tables of `wordllama`."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["Embedder"]:
        """The model; its tables are read once for all."""
        if not context.dry and await asyncio.to_thread(embed, [""]) is None:
            raise MissingExtra("an embedding model", _EXTRA)
        yield Embedder(context.name)


class Embedder:
    """What `Embedding` opens."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def embedded(self, texts: Sequence[str], dimensions: int | None = None) -> Embedded:
        """The texts as vectors; see `Embeds`."""
        if dimensions not in (None, *DIMENSIONS):
            known = ", ".join(map(str, DIMENSIONS))
            raise ModelError(
                f"{self.name} makes vectors of {known} dimensions, not of {dimensions}", status=400
            )
        made = await asyncio.to_thread(embed_counted, texts)
        if made is None:
            raise MissingExtra("an embedding model", _EXTRA)
        table, tokens = made
        if dimensions is not None:
            import numpy

            table = table[:, :dimensions]
            norms = numpy.linalg.norm(table, axis=1, keepdims=True)
            table = table / numpy.maximum(norms, 1e-12)
        return Embedded(vectors=[array("f", row.tobytes()) for row in table], tokens=tokens)

    async def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
        """Refuses: it is no model for questions."""
        raise ModelError(
            f"{self.name} makes vectors and answers no questions: ask it at /v1/embeddings",
            status=400,
        )
        yield  # A generator, as every model's stream is.


class _Vector(msgspec.Struct):
    embedding: list[float]
    index: int = 0


class _Count(msgspec.Struct):
    prompt_tokens: int = 0


class _Answer(msgspec.Struct):
    data: list[_Vector]
    usage: _Count | None = None


def embedded_there(answer: bytes) -> Embedded:
    """What another server of OpenAI's protocol answered.

    Raises:
        ValueError: it is no list of vectors.
    """
    try:
        read = msgspec.json.decode(answer, type=_Answer)
    except msgspec.MsgspecError as error:
        raise ValueError(f"answers with no embeddings: {error}") from error
    ordered = sorted(read.data, key=lambda one: one.index)
    return Embedded(
        vectors=[array("f", one.embedding) for one in ordered],
        tokens=read.usage.prompt_tokens if read.usage else 0,
    )
