"""Models that do what a test says, opened from YAML like any other."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from kickwheel.core.plugins import Context, Part
from kickwheel.models.chat import ChatRequest, Delta, Done, TextDelta, Usage
from kickwheel.models.prices import Prices

USED = Usage(prompt_tokens=10, output_tokens=2)


@dataclass
class Script:
    """What a model does when it is asked."""

    pieces: list[Delta | Exception | float] = field(default_factory=list)
    """Pieces to give, errors to raise, seconds to wait."""
    identity: str = "one"
    prices: Prices | None = None
    asked: list[ChatRequest] = field(default_factory=list)
    stopped: int = 0
    """Answers that were left before their end."""
    name: str = ""

    def cost_usd(self, usage: Usage) -> float | None:
        return None if self.prices is None else self.prices.cost_usd(usage)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta]:
        self.asked.append(request)
        try:
            for piece in list(self.pieces):
                if isinstance(piece, Exception):
                    raise piece
                if isinstance(piece, float):
                    await asyncio.sleep(piece)
                else:
                    yield piece
        except (asyncio.CancelledError, GeneratorExit):
            self.stopped += 1
            raise


scripts: dict[str, Script] = {}


class Scripted(Part):
    """A model that does what `scripts` says under this name."""

    script: str

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[Script]:
        script = scripts[self.script]
        script.name = context.name
        yield script


def says(*words: str, model: str = "", usage: Usage = USED) -> list[Delta | Exception | float]:
    return [*(TextDelta(word) for word in words), Done("stop", usage, model)]


def yaml(**models: Script) -> str:
    """Lines for the models, which do as they are told."""
    scripts.update(models)
    kind = "tests.models.policies.scripted:Scripted"
    return "".join(f"{name}: {{kind: '{kind}', script: {name}}}\n" for name in models)
