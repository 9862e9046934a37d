"""What policies share: a model behind a model, and a note of what was decided."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from msgspec import structs

from kickwheel.models import observed
from kickwheel.models.caller import caller
from kickwheel.models.chat import ChatRequest, Delta, Model, Usage
from kickwheel.models.pictures import sees
from kickwheel.records import genai, wire
from kickwheel.trace.record import current


class Wrapped:
    """A model that asks another one, and otherwise is as that one."""

    def __init__(self, name: str, model: Model) -> None:
        self.name = name
        self.model = model

    @property
    def provider(self) -> str:
        """Whose protocol answers."""
        return observed.provider(self.model)

    @property
    def identity(self) -> str:
        """What answers; see `identity`."""
        return identity(self.model)

    @property
    def sees(self) -> bool:
        """Whether the model takes pictures; see `pictures`."""
        return sees(self.model)

    @property
    def personal(self) -> bool:
        """Whether one may be refused what another one is answered; see `personal`."""
        return personal(self.model)

    def cost_usd(self, usage: Usage) -> float | None:
        """What an answer cost, in dollars; `None` where no prices are set."""
        return observed.cost_usd(self.model, usage)


def identity(model: Model) -> str:
    """What answers behind a name: it changes with the model there, its address, its adapter."""
    return str(getattr(model, "identity", model.name))


def personal(model: Model) -> bool:
    """Whether the model refuses one what it answers another one, as where each has a budget of
    their own."""
    return bool(getattr(model, "personal", False))


def question(request: ChatRequest, model: Model) -> str | None:
    """A key that two requests share where one answer is as good for both.

    It holds the caller's tenant: nothing is shared between tenants. `None` where answers are meant
    to vary: temperature above 0 without a seed.
    """
    if request.temperature and request.seed is None:
        return None
    asked = structs.replace(request, timeout_s=0.0, whole=False)
    return wire.digest((caller().tenant, identity(model), asked))


def decided(what: str, by: Model | None = None) -> None:
    """Notes on the model's span that is open here what a policy decided.

    Args:
        what: begins with the policy's kind: `fallback: general answered 429, small is asked`.
        by: the model that answers from now on.
    """
    noted = current()
    if noted is None or noted.kind != "model":
        return
    known = noted.attributes.get(genai.DECISIONS)
    noted.attributes[genai.DECISIONS] = [*(known if isinstance(known, list) else ()), what]
    if by is not None:
        noted.attributes[genai.ANSWERED_BY] = by.name
        noted.attributes[genai.PROVIDER] = observed.provider(by)


@asynccontextmanager
async def reading(deltas: AsyncIterator[Delta]) -> AsyncGenerator[AsyncIterator[Delta]]:
    """The pieces; whoever leaves the block early stops the model."""
    try:
        yield deltas
    finally:
        # A model may give any iterator; those that can be closed stop their engine by it.
        close = getattr(deltas, "aclose", None)
        if close is not None:
            await close()
