"""A model that follows a ref: whatever was promoted last answers."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Generic, TypeVar

from kickwheel.core.plugins import Context
from kickwheel.models import observed
from kickwheel.models.chat import ChatRequest, Delta, Model, Usage

M = TypeVar("M", bound=Model)

LOOK_S = 0.1
"""Seconds between two looks at a ref: a read of some 20 µs."""
AGAIN_S = 1.0
"""Seconds until a promoted adapter that did not open is tried again."""
HOLD_S = 1.0
"""Seconds that a request waits for what was just promoted. An old engine that answers while the new
one starts takes its cores, and both are slow."""
_log = logging.getLogger("kickwheel.engine")


class Following(Generic[M]):
    """The model that a ref points to; streams that run when it moves end on the old one."""

    def __init__(self, name: str, current: M) -> None:
        self.name = name
        self.current = current
        self.opening: asyncio.Future[M] | None = None
        """What was promoted, while it opens."""

    def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
        """As the current model's; for a moment, that of the model which is about to be."""
        if self.opening is None:
            return self.current.stream(request)
        return self._held(request, self.opening)

    @property
    def identity(self) -> str:
        """As the current model's: a promotion changes it."""
        return str(getattr(self.current, "identity", self.name))

    def cost_usd(self, usage: Usage) -> float | None:
        """As the current model's."""
        return observed.cost_usd(self.current, usage)

    async def _held(
        self, request: ChatRequest, opening: asyncio.Future[M]
    ) -> AsyncGenerator[Delta]:
        await asyncio.wait({opening}, timeout=HOLD_S)
        opened = opening.done() and not opening.cancelled() and opening.exception() is None
        model = opening.result() if opened else self.current
        deltas = model.stream(request)
        try:
            async for delta in deltas:
                yield delta
        finally:
            close = getattr(deltas, "aclose", None)
            if close is not None:
                await close()


F = TypeVar("F", bound=Following)  # type: ignore[type-arg]


@asynccontextmanager
async def following(
    context: Context,
    ref: str,
    open_adapter: Callable[[Path | None], Awaitable[M]],
    make: Callable[[str, M], F],
    retire: Callable[[M], Awaitable[None]] | None = None,
) -> AsyncGenerator[F]:
    """The model behind the ref, and from then on whatever it is moved to.

    Args:
        open_adapter: the model with the adapter of this folder; of the base alone for `None`.
        make: `Following`, or what adds to it.
        retire: what is done with a model that answers no new requests; its streams may still run.
    """
    store = context.store

    async def behind(target: str | None) -> M:
        if target is None:
            return await open_adapter(None)
        kind, _, identity = target.partition("/")
        folder = store.artifacts.path(kind, identity)
        return await open_adapter(folder / "adapter" if kind == "snapshot" else folder)

    async def follow() -> None:
        seen, told = known, known
        while True:
            await asyncio.sleep(LOOK_S)
            target = seen
            try:
                target = store.refs.read(ref)
                if target != seen:
                    model.opening = asyncio.ensure_future(behind(target))
                    try:
                        before, model.current = model.current, await model.opening
                    finally:
                        model.opening = None
                    seen = target
                    _log.info("%s is now %s", ref, target or "the base alone")
                    if retire is not None:
                        await retire(before)
            except Exception as error:
                # What answers must go on answering, and the next look tries again.
                if target != told:
                    _log.error("%s points at %s, which cannot be served: %s", ref, target, error)
                told = target
                await asyncio.sleep(AGAIN_S)

    known = store.refs.read(ref)
    if known is None and not context.dry:
        _log.warning(
            "%s: nothing was promoted to %s yet, so the base answers alone. "
            "`kickwheel turn` makes an adapter, and promotes it once it is better.",
            *(context.name, ref),
        )
    model = make(context.name, await behind(known))
    task = asyncio.create_task(follow())
    try:
        yield model
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if retire is not None:
            await retire(model.current)
