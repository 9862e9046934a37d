"""`kind: coalesced`: one request for many that ask the same at once."""

from collections.abc import AsyncGenerator, Hashable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Annotated

from kickwheel.core.plugins import Context, Name, Part
from kickwheel.models.caller import caller
from kickwheel.models.chat import ChatRequest, Delta, Done, Model, Usage
from kickwheel.models.policies.told import Told
from kickwheel.models.policies.wrapped import Wrapped, decided, personal, question, reading

SPENT_NOTHING = Usage(cost_usd=0.0)


class Coalesced(Part):
    """Asks once where several ask the same at once, and tells all of them."""

    model: Annotated[str, Name("models")]

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["CoalescedModel"]:
        """The model, asked once for all who ask the same."""
        yield CoalescedModel(context.name, context.part("models", self.model))


class CoalescedModel(Wrapped):
    """A model that is asked once for all who ask the same at once."""

    def __init__(self, name: str, model: Model) -> None:
        super().__init__(name, model)
        self._running: dict[Hashable, Told] = {}

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta]:
        """The answer, from its beginning, also where it was under way already.

        Its tokens are told to one of those who asked; the others spent none.

        Raises:
            ModelError: as the model.
        """
        asked = question(request, self.model)
        if asked is None:
            async with reading(self.model.stream(request)) as deltas:
                async for delta in deltas:
                    yield delta
            return
        # With the time: nobody waits longer than was asked for, and nobody less.
        # And of one caller, where another one's budget may be used up.
        who = (caller().user, caller().token) if personal(self.model) else None
        key = (asked, request.timeout_s, request.whole, who)
        answer = self._running.get(key)
        if answer is None or answer.ended:
            answer = self._running[key] = Told(self.model.stream(request))
        else:
            decided("coalesced: the same was asked already")
        try:
            async with aclosing(answer.listen()) as pieces:
                async for delta, charged in pieces:
                    if isinstance(delta, Done) and not charged:
                        delta = replace(delta, usage=SPENT_NOTHING)
                    yield delta
        finally:
            if answer.ended and self._running.get(key) is answer:
                del self._running[key]
