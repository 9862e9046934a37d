"""`kind: hedged`: a second request where the first is slow; whoever begins first answers.

Source: Dean and Barroso (2013), The Tail at Scale: a second request after the 95th percentile
shortens the tail for at most some 5 % more requests.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated

from msgspec import structs
from pydantic import Field

from kickwheel.core.errors import KickwheelError
from kickwheel.core.plugins import Context, Name, Part
from kickwheel.models import observed
from kickwheel.models.chat import ChatRequest, Delta, Done, Model
from kickwheel.models.pictures import sees, sent
from kickwheel.models.policies.told import Told
from kickwheel.models.policies.wrapped import Wrapped, decided, personal

SEEN = 200
"""Times to the first piece that are remembered."""
ENOUGH = 20
"""Before that many were seen, nothing is learnt from them and nothing is hedged."""
LATE_SHARE = 0.95


class Hedged(Part):
    """Asks a second time where the first answer is slow to begin; whoever begins first answers."""

    model: Annotated[str, Name("models")]
    """Asked first."""
    second: Annotated[str | None, Name("models")] = None
    """Asked second; by default the same once more."""
    after_s: Annotated[float, Field(ge=0)] | None = None
    """When; by default when it takes longer than 95 of 100 answers took to begin."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["HedgedModel"]:
        """The model, hedged."""
        first = context.part("models", self.model)
        second = first if self.second is None else context.part("models", self.second)
        yield HedgedModel(context.name, first, second, self.after_s)


class HedgedModel(Wrapped):
    """A model, and one that is asked where it is slow."""

    def __init__(self, name: str, model: Model, second: Model, after_s: float | None) -> None:
        super().__init__(name, model)
        self.second = second
        self._after_s = after_s
        # Answers in one piece begin when they end, so they have times of their own.
        self._seen = {whole: deque[float](maxlen=SEEN) for whole in (False, True)}

    @property
    def personal(self) -> bool:
        """Whether one of both is; see `wrapped.personal`."""
        return personal(self.model) or personal(self.second)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta]:
        """The answer that begins first; the other one is cancelled.

        Raises:
            ModelError: there was none.
        """
        asked = [(self.model, Told(self.model.stream(request)))]
        try:
            model, answer = await self._first(asked, request)
            for other, loser in asked:
                if loser is not answer:
                    await loser.stop()
                    decided(f"hedged: {model.name} began first, {other.name} is stopped", by=model)
            async for delta, _ in answer.listen():
                if isinstance(delta, Done) and model is not self.model:
                    cost = observed.cost_usd(model, delta.usage)
                    delta = replace(delta, usage=replace(delta.usage, cost_usd=cost))
                yield delta
        finally:
            for _, answer in asked:
                await answer.stop()

    def after_s(self, request: ChatRequest) -> float | None:
        """How long the first one may take to begin; `None` where that is not known yet."""
        if self._after_s is not None:
            return self._after_s
        seen = self._seen[request.whole]
        return sorted(seen)[int(LATE_SHARE * len(seen))] if len(seen) >= ENOUGH else None

    async def _first(
        self, asked: list[tuple[Model, Told]], request: ChatRequest
    ) -> tuple[Model, Told]:
        loop = asyncio.get_running_loop()
        started = loop.time()
        first = asked[0][1]
        await asyncio.wait([first.begun], timeout=self.after_s(request))
        left_s = request.timeout_s - (loop.time() - started)
        able = sees(self.second) or not sent(request.messages)
        if not first.begun.done() and left_s > 0 and able:
            decided(f"hedged: {self.second.name} is asked too, after {loop.time() - started:.3f} s")
            again = self.second.stream(structs.replace(request, timeout_s=left_s))
            asked.append((self.second, Told(again)))
        pending = {answer.begun for _, answer in asked}
        while pending:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for model, answer in asked:
                if answer.begun.done() and answer.begun.exception() is None:
                    # One that was overtaken took at least as long as until now.
                    self._seen[request.whole].append(loop.time() - started)
                    return model, answer
        error = first.begun.exception()
        assert isinstance(error, Exception)
        if isinstance(error, KickwheelError):
            error.add_note(f"while {self.name} waited for {len(asked)} answers")
        raise error
