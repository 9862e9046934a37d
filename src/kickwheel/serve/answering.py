"""A question of a client to what answers under a name: one trace, and nothing goes on for nobody.

Each protocol reads its own body and writes its own answer; between the two stands this.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from kickwheel.core.errors import ModelError, UsageError
from kickwheel.models import observed, pictures
from kickwheel.models.chat import ChatRequest, Collected, Delta, Model
from kickwheel.records import SpanKind, genai
from kickwheel.serve.errors import Refused
from kickwheel.serve.house import House
from kickwheel.trace.record import OpenSpan, Recorder

_TO_RECORD = (
    " What other servers answer is passed on and recorded by `kickwheel serve --record URL`."
)
_FOR_OTHERS = " What is to be passed on and recorded is asked at /t/PROJECT/v1 in place of /v1."


class Sink(Protocol):
    """Where the pieces of an answer go."""

    @property
    def begun(self) -> bool:
        """Whether the client was told anything, so that an error can be no status any more."""

    @property
    def ended(self) -> bool:
        """Whether the client was told all, so that it may go."""

    async def add(self, delta: Delta) -> None:
        """Takes the next piece; the last one is `Done`."""

    async def fail(self, error: Exception) -> None:
        """Takes the error that ended an answer that had begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked, and as whose traffic it is noted."""

    name: str
    """What is asked by the client: the name of an agent, model, base or adapter."""
    request: ChatRequest
    identity: str
    """The answer's id."""
    trace: str
    """Id of its trace, 32 hex digits."""
    project: str = ""
    """Whose traffic it is; by default that of `name`."""


class Answering:
    """What answers under which name, asked for clients.

    Args:
        passing: whether other servers are asked, too, where the client names a project.
    """

    def __init__(self, house: House, recorder: Recorder, *, passing: bool = False) -> None:
        self._house = house
        self._recorder = recorder
        self._passing = passing
        self._kinds: dict[str, SpanKind] = {}

    async def model(self, name: str, project: str = "") -> Model:
        """What answers under the name.

        Args:
            project: whose traffic it is, where the client named one.
        Raises:
            Refused: nothing does (404).
        """
        try:
            return await self._house.model(name)
        except UsageError as error:
            hint = _TO_RECORD if project else _FOR_OTHERS if self._passing else ""
            raise Refused(404, f"{error}{hint}", param="model", code="model_not_found") from error

    async def answer(self, model: Model, question: Question, sink: Sink) -> Collected:
        """Gives the pieces of the answer to the sink, and notes the whole in a trace.

        Returns:
            What came of it; all of it, unless the sink was told of an error.
        Raises:
            KickwheelError: as the model raises, while the sink has not begun.
        """
        name, trace = question.name, question.trace
        workload = question.project or name
        kind = await self.kind(name)
        with self._recorder.trace(workload, name, kind, identity=trace) as root:
            started = time.perf_counter()
            collected = Collected()
            root.attributes[genai.RESPONSE_ID] = question.identity
            if kind == "agent":
                # An agent fills the root itself, where it finds that nobody has.
                root.attributes[genai.REQUEST_MODEL] = name
            else:
                observed.note_request(root, model, question.request, name)
            try:
                if kind != "agent":
                    pictures.check(model, question.request.messages)
                async with _pieces(model, question.request) as pieces:
                    async for delta in pieces:
                        collected.add(delta)
                        await sink.add(delta)
                if collected.done is None:
                    raise ModelError(f"{model.name} stopped in the middle of its answer")
            except Exception as error:
                if not sink.begun:
                    raise
                # The status is sent already: the error goes into the stream.
                root.fail(error)
                await sink.fail(error)
            finally:
                _note_answer(root, model, question.request, collected, started)
        return collected

    async def kind(self, name: str) -> SpanKind:
        """What the name belongs to: `agent`, or `model`."""
        # A list of all models costs a look at the disk, and what a name is does not change.
        if name not in self._kinds:
            models = await asyncio.to_thread(self._house.models)
            cards = {card.id: card.kind for card in models}
            self._kinds[name] = cards.get(name, "model")
        return self._kinds[name]


async def unless_left(
    receive: Callable[[], Awaitable[Any]], sink: Sink, work: Callable[[], Awaitable[None]]
) -> None:
    """Does the work; a client that goes away before it was told all ends it."""
    worker = asyncio.current_task()
    left = False

    async def watch() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            pass
        if worker is not None and not sink.ended:
            left = True
            worker.cancel()

    watching = asyncio.create_task(watch())
    try:
        await work()
    except asyncio.CancelledError:
        # Nobody is there to be answered; anybody else's wish to cancel goes on.
        if not left or worker is None or worker.uncancel():
            raise
    finally:
        watching.cancel()


@asynccontextmanager
async def _pieces(model: Model, request: ChatRequest) -> AsyncIterator[AsyncIterator[Delta]]:
    pieces = model.stream(request)
    try:
        yield pieces
    finally:
        # A generator that nobody reads on must let go of its connection or slot now.
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await close()


def _note_answer(
    root: OpenSpan, model: Model, request: ChatRequest, collected: Collected, started: float
) -> None:
    if root.kind == "agent":
        root.input = root.input or request.messages
        if not root.output and collected.first is not None:
            root.output = (collected.message(),)
    else:
        observed.note_answer(root, model, collected, started)
