"""The open app behind the front door: agents, models, bases and adapters as they are now."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from kickwheel.app import App
from kickwheel.core.errors import UsageError
from kickwheel.core.plugins import nearest
from kickwheel.models import catalog
from kickwheel.models.chat import Model
from kickwheel.models.engines.engine import Engine, open_engine
from kickwheel.models.engines.llamacpp import FollowingModel, LocalModel
from kickwheel.records import Adapter, wire
from kickwheel.serve.house import ModelCard

TUNED = "ft:"
"""How the refs of finished fine-tuning jobs begin."""


@asynccontextmanager
async def opened(app: App) -> AsyncGenerator["OpenedHouse"]:
    """The house of an open app, with the engines that it starts for jobs' models."""
    async with AsyncExitStack() as stack:
        yield OpenedHouse(app, stack)


class OpenedHouse:
    """What `serve.house.House` asks for."""

    def __init__(self, app: App, stack: AsyncExitStack) -> None:
        self._app = app
        self._stack = stack
        self._since = int(time.time())
        self._engines: dict[str, Engine] = {}
        self._models: dict[str, Model] = {}
        self._lock = asyncio.Lock()
        for live in app.live.values():
            if isinstance(live, LocalModel | FollowingModel):
                self._engines.setdefault(live.engine.base.name, live.engine)

    def models(self) -> Sequence[ModelCard]:
        """Agents and models of the file, then bases, finished jobs' models, and adapters."""
        cards = [
            ModelCard(
                id=name,
                kind="agent" if shelf == "agents" else "model",
                created=self._since,
                context=_context(live),
            )
            for (shelf, name), live in self._app.live.items()
            if shelf in ("agents", "models")
        ]
        cards += [
            ModelCard(id=base, created=self._since, context=engine.context, tunable=True)
            for base, engine in self._engines.items()
        ]
        cards += [self._adapter_card(name) for name in self._adapters()]
        return cards

    async def model(self, name: str) -> Model:
        """What answers under this name.

        Raises:
            UsageError: nothing does; the text names the nearest.
            EngineError: its engine does not start.
        """
        for shelf in ("agents", "models"):
            live: Model | None = self._app.live.get((shelf, name))
            if live is not None:
                return live
        async with self._lock:
            if name in self._engines:
                return await self._engines[name].model(None, name)
            target = self._target(name)
            if target not in self._models:
                self._models[target] = await self._with_adapter(target, name)
            return self._models[target]

    def ready(self) -> str | None:
        """`None`: all parts are open before the server listens."""
        return None

    def _adapters(self) -> list[str]:
        refs = [name for name in self._app.store.refs.names() if name.startswith(TUNED)]
        return [*refs, *(f"adapter/{i}" for i in self._app.store.artifacts.ids("adapter"))]

    def _target(self, name: str) -> str:
        target = self._app.store.refs.read(name) if name.startswith(TUNED) else name
        if target is None or not target.startswith("adapter/"):
            known = [card.id for card in self.models()]
            raise UsageError(f'no model "{name}" here. {nearest(name, known)}')
        return target

    def _adapter_card(self, name: str) -> ModelCard:
        folder = self._app.store.artifacts.path("adapter", self._target(name).split("/")[1])
        created = int((folder / "manifest.json").stat().st_mtime)
        return ModelCard(id=name, created=created, parent=_record(self._app, folder.name).base)

    async def _with_adapter(self, target: str, name: str) -> Model:
        identity = target.removeprefix("adapter/")
        folder = self._app.store.artifacts.path("adapter", identity)
        base = _record(self._app, identity).base
        if base not in self._engines:
            found = await asyncio.to_thread(catalog.base, base)
            self._engines[base] = await self._stack.enter_async_context(open_engine(found))
        return await self._engines[base].model(folder, name)


def _record(app: App, identity: str) -> Adapter:
    path = app.store.artifacts.path("adapter", identity) / "adapter.json"
    return wire.from_bytes(path.read_bytes(), Adapter)


def _context(live: object) -> int | None:
    return live.engine.context if isinstance(live, LocalModel | FollowingModel) else None
