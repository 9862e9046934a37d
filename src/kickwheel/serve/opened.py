"""The open app behind the front door: agents, models, bases and adapters as they are now."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from kickwheel.app import App
from kickwheel.core.errors import DataError, StoreError, UsageError
from kickwheel.core.plugins import nearest
from kickwheel.core.store.files import read_record
from kickwheel.models import catalog
from kickwheel.models.chat import Model
from kickwheel.models.engines.engine import Engine, open_engine
from kickwheel.models.engines.llamacpp import FollowingModel, LocalModel
from kickwheel.records import Adapter
from kickwheel.serve.house import ADAPTER, ModelCard
from kickwheel.serve.job import TUNED
from kickwheel.serve.peft import PeftFolder, peft_folder

KEPT = 8
"""Adapters of jobs and of the store that an engine holds at most; who was asked last stays."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the list of models tells of an adapter."""

    base: str
    created: int
    """Unix time, seconds."""


@asynccontextmanager
async def opened(app: App) -> AsyncGenerator["OpenedHouse"]:
    """The house of an open app, with the engines that it starts for jobs' models."""
    async with AsyncExitStack() as stack:
        house = OpenedHouse(app, stack)
        cache = app.store.folder / "peft"
        house.outside = await stack.enter_async_context(peft_folder(cache, house.engines))
        yield house


class OpenedHouse:
    """What `serve.house.House` asks for."""

    def __init__(self, app: App, stack: AsyncExitStack) -> None:
        self._app = app
        self._stack = stack
        self._since = int(time.time())
        self._engines: dict[str, Engine] = {}
        self._models: OrderedDict[str, LocalModel] = OrderedDict()
        """By `adapter/<id>`, who was asked last at the end. An engine holds what stands here."""
        self._known: dict[str, _Kept | None] = {}
        """By id; what is in the store never changes. `None`: its record is damaged."""
        self._lock = asyncio.Lock()
        self.outside: PeftFolder | None = None
        """Adapters that others lay into a folder."""
        for live in app.live.values():
            if isinstance(live, LocalModel | FollowingModel):
                self._engines.setdefault(live.engine.base.name, live.engine)

    def engines(self) -> Sequence[Engine]:
        """The engines of all bases that run here."""
        return list(self._engines.values())

    def models(self) -> Sequence[ModelCard]:
        """Agents and models of the file, then bases, adapters of others, finished jobs' models, and
        adapters of the store."""
        cards = [
            ModelCard(
                id=name,
                kind="agent" if shelf == "agents" else "model",
                created=self._since,
                context=_context(live),
            )
            for (shelf, name), live in list(self._app.live.items())
            if shelf in ("agents", "models")
        ]
        cards += [
            ModelCard(id=base, created=self._since, context=engine.context, tunable=True)
            for base, engine in list(self._engines.items())
        ]
        taken = {card.id for card in cards}
        for name, found in (self.outside.found if self.outside else {}).items():
            if name not in taken:
                cards.append(ModelCard(id=name, created=found.created, parent=found.base))
        for name, identity in self._adapters():
            kept = self._kept(identity)
            if kept is not None:
                cards.append(ModelCard(id=name, created=kept.created, parent=kept.base))
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
            outside = self.outside.found.get(name) if self.outside else None
            target = await self._target(name) if outside is None else f"{name} {outside.folder}"
            self._drop_lost()
            model = self._models.get(target)
            if model is None:
                model = self._models[target] = await (
                    self._with_adapter(target, name)
                    if outside is None
                    else self._engines[outside.base].model(outside.folder, name)
                )
            self._models.move_to_end(target)
            while len(self._models) > KEPT:
                self._models.popitem(last=False)
            return model

    def ready(self) -> str | None:
        """`None`: all parts are open before the server listens."""
        return None

    def _adapters(self) -> list[tuple[str, str]]:
        """Names of adapters with their ids: finished jobs' first, then all in the store."""
        refs, ids = self._app.store.refs, self._app.store.artifacts.ids("adapter")
        tuned = [
            (name, (refs.read(name) or "").removeprefix(ADAPTER))
            for name in refs.names()
            if name.startswith(TUNED)
        ]
        there = set(ids)
        return [*(one for one in tuned if one[1] in there), *((f"{ADAPTER}{i}", i) for i in ids)]

    def _kept(self, identity: str) -> _Kept | None:
        if identity not in self._known:
            self._known[identity] = _read(self._app, identity)
        return self._known[identity]

    async def _target(self, name: str) -> str:
        target = self._app.store.refs.read(name) if name.startswith(TUNED) else name
        if target is None or not target.startswith(ADAPTER):
            known = [card.id for card in await asyncio.to_thread(self.models)]
            raise UsageError(f'no model "{name}" here. {nearest(name, known)}')
        return target

    def _drop_lost(self) -> None:
        # An engine starts with all adapters that it holds, and with none if one is gone.
        for target, model in list(self._models.items()):
            if model.adapter is not None and not model.adapter.exists():
                _log.warning("%s is gone and not served any more: %s", target, model.adapter)
                del self._models[target]

    async def _with_adapter(self, target: str, name: str) -> LocalModel:
        identity = target.removeprefix(ADAPTER)
        folder = self._app.store.artifacts.path("adapter", identity)
        kept = self._kept(folder.name)
        if kept is None:
            raise DataError(f"{folder / 'adapter.json'}: damaged. Tune the adapter again.")
        if kept.base not in self._engines:
            found = await asyncio.to_thread(catalog.base, kept.base)
            self._engines[kept.base] = await self._stack.enter_async_context(open_engine(found))
        return await self._engines[kept.base].model(folder, name)


def _read(app: App, identity: str) -> _Kept | None:
    try:
        folder = app.store.artifacts.path("adapter", identity)
        created = int((folder / "manifest.json").stat().st_mtime)
        record = read_record(folder, Adapter)
    except (OSError, StoreError, UsageError) as error:
        _log.warning("adapter/%s is not served, its record cannot be read: %s", identity, error)
        return None
    return _Kept(record.base, created)


def _context(live: object) -> int | None:
    return live.engine.context if isinstance(live, LocalModel | FollowingModel) else None
