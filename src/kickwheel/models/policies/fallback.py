"""`kind: fallback`: the next model where one does not answer."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from typing import Annotated

from msgspec import structs
from pydantic import Field

from kickwheel.core.errors import EngineError, ModelError
from kickwheel.core.plugins import Context, Name, Part
from kickwheel.models import observed
from kickwheel.models.chat import ChatRequest, Delta, Done, Model, Usage
from kickwheel.models.pictures import sees, sent
from kickwheel.models.policies.wrapped import decided, identity, personal, reading
from kickwheel.models.retry import others_may_answer


class Fallback(Part):
    """Asks the first model, and the next one where it does not answer."""

    models: Annotated[tuple[str, ...], Name("models"), Field(min_length=2)]
    """In the order in which they are asked."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["Chain"]:
        """The chain."""
        yield Chain(context.name, [context.part("models", name) for name in self.models])


class Chain:
    """Models in the order in which they are asked."""

    def __init__(self, name: str, models: list[Model]) -> None:
        self.name = name
        self.models = models

    @property
    def provider(self) -> str:
        """Whose protocol the first one speaks."""
        return observed.provider(self.models[0])

    @property
    def identity(self) -> str:
        """What answers, whoever of them does."""
        return " or ".join(identity(model) for model in self.models)

    @property
    def sees(self) -> bool:
        """Whether one of them takes pictures; where a caller sent some, only those are asked."""
        return any(sees(model) for model in self.models)

    @property
    def personal(self) -> bool:
        """Whether one of them is; see `wrapped.personal`."""
        return any(personal(model) for model in self.models)

    def cost_usd(self, usage: Usage) -> float | None:
        """What an answer cost at most: usage of this chain tells by itself what it did cost."""
        costs = [observed.cost_usd(model, usage) for model in self.models]
        known = [cost for cost in costs if cost is not None]
        return max(known) if len(known) == len(costs) else None

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta]:
        """The answer of the first model that begins one.

        Each has an equal share of the time that is left to begin in. Once a piece was told, or
        where the request itself is wrong (400), no other one is asked.

        Raises:
            ModelError: the last one's, or the one that no other model would change.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + request.timeout_s
        asked = self.models
        if sent(request.messages):
            asked = [model for model in asked if sees(model)]
        for position, model in enumerate(asked):
            left = max(0.0, deadline - loop.time())
            following = asked[position + 1 :]
            told = False
            try:
                async with reading(
                    model.stream(structs.replace(request, timeout_s=left))
                ) as deltas:
                    with others_may_answer() if following else nullcontext():
                        first = await self._first(model, deltas, left / (len(following) + 1))
                    if position:
                        decided(f"fallback: {model.name} answers", by=model)
                    told = True
                    yield _priced(model, first)
                    async for delta in deltas:
                        yield _priced(model, delta)
                return
            except (ModelError, EngineError) as error:
                status = getattr(error, "status", 502)
                if told or not following or status == 400:
                    raise
                decided(f"fallback: {model.name} answers {status}, {following[0].name} is asked")

    async def _first(self, model: Model, deltas: AsyncIterator[Delta], share_s: float) -> Delta:
        try:
            async with asyncio.timeout(share_s):
                return await anext(deltas)
        except TimeoutError:
            text = f"{model.name}: did not begin to answer within {share_s:.3g} s"
            raise ModelError(text, status=504) from None
        except StopAsyncIteration:
            raise ModelError(f"{model.name}: ended without an answer") from None


def _priced(model: Model, delta: Delta) -> Delta:
    if not isinstance(delta, Done) or delta.usage.cost_usd is not None:
        return delta
    return replace(
        delta, usage=replace(delta.usage, cost_usd=observed.cost_usd(model, delta.usage))
    )
