"""Somebody else's package: one tool kind and one model kind."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from kickwheel import Part
from kickwheel.core.plugins import Context
from kickwheel.models.chat import ChatRequest, Delta, Done, TextDelta, Usage


class Parrot:
    """A model that says the last message again."""

    def __init__(self, name: str, loud: bool) -> None:
        self.name = name
        self._loud = loud

    async def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
        text = request.messages[-1].content or ""
        yield TextDelta(text.upper() if self._loud else text)
        yield Done(finish_reason="stop", usage=Usage(prompt_tokens=1, output_tokens=1))


class ParrotPart(Part):
    """Answers with the question."""

    loud: bool = False
    """Whether it shouts."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[Parrot]:
        yield Parrot(context.name, self.loud)


class NoTools(Part):
    """A toolbox with nothing in it."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[tuple[()]]:
        yield ()
