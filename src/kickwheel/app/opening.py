"""An app whose parts are alive: opened in order, closed in reverse."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from kickwheel.agents.keeper import Keeper
from kickwheel.agents.memory import Memory, Together
from kickwheel.agents.offered import Offered, offered
from kickwheel.agents.run import AgentPart
from kickwheel.agents.work import Worker
from kickwheel.app.check import check_app
from kickwheel.app.needs import order
from kickwheel.app.plan import ANSWERING, Plan
from kickwheel.core.errors import KickwheelError, UsageError
from kickwheel.core.plugins import Context, Part, nearest
from kickwheel.core.store import Store, open_store
from kickwheel.models.caller import whose
from kickwheel.models.chat import Model
from kickwheel.records import Trace
from kickwheel.trace.record import Recorder
from kickwheel.trace.store import Traces


@dataclass(slots=True)
class App:
    """An open app."""

    plan: Plan
    store: Store
    traces: Traces
    recorder: Recorder
    live: dict[tuple[str, str], Any] = field(default_factory=dict)
    keeper: Keeper = field(init=False)
    """Keeps the runs of agents, so that they survive the program."""

    def model(self, name: str) -> Model:
        """The open model or agent of that name: both answer in the same way.

        Raises:
            UsageError: there is none; the text names the nearest.
        """
        for shelf in ANSWERING:
            if (shelf, name) in self.live:
                return cast(Model, self.live[shelf, name])
        known = {n for s, n in self.live if s in ANSWERING}
        raise UsageError(f'no agent or model named "{name}". {nearest(name, known)}')

    def tools(self, *names: str) -> list[Offered]:
        """What the app offers to a program that is no agent of ours, callable within its limits.

        Args:
            names: of entries of `tools`, all of whose tools are meant, and of agents, each of
                which becomes a tool that takes a task; by default all of both.
        Raises:
            UsageError: there is none of that name; the text names the nearest.
        """
        known = {name: shelf for shelf, name in self.live if shelf in ("tools", "agents")}
        for name in names:
            if name not in known:
                raise UsageError(f'no tools or agent named "{name}". {nearest(name, known)}')
        wanted = names or tuple(known)
        boxes = [self.live["tools", name] for name in wanted if known[name] == "tools"]
        agents = [self.live["agents", name] for name in wanted if known[name] == "agents"]
        return offered(boxes, agents, self.recorder)


@asynccontextmanager
async def open_app(
    path: Path | Plan, *, only: Collection[str] | None = None, dry: bool = False
) -> AsyncGenerator[App]:
    """The app, open.

    Args:
        path: the file, its folder, or what `check_app` made of it.
        only: names of the models and agents that are wanted; what they need is opened too.
        dry: whether no model is going to be asked, so that no engine needs to start.
    Raises:
        ConfigError: the file has mistakes.
        KickwheelError: a part does not open; the text names it.
    """
    plan = path if isinstance(path, Plan) else check_app(path)
    async with AsyncExitStack() as stack:
        store = stack.enter_context(open_store(plan.store, plan.database))
        traces = Traces(store)
        pass_on = await _exporting(plan, stack)
        recorder = stack.enter_context(Recorder(traces, pass_on, whose))
        app = App(plan, store, traces, recorder)
        share = _sharing(stack)
        for shelf, name in order(plan, only):
            context = Context(name, plan.folder, store, app.live, share=share, dry=dry)
            try:
                app.live[shelf, name] = await stack.enter_async_context(
                    plan.parts[shelf, name].open(context)
                )
            except KickwheelError as error:
                error.add_note(f"while opening {shelf}.{name} of {plan.file}")
                raise
        app.keeper = await stack.enter_async_context(Keeper(store))
        for (shelf, name), live in app.live.items():
            if isinstance(live, Worker):
                live.keeper = app.keeper
                live.memory = _memory(app, plan.parts[shelf, name])
        yield app


async def _exporting(plan: Plan, stack: AsyncExitStack) -> Callable[[Sequence[Trace]], None] | None:
    """What takes traces that leave the house; `None` where none do."""
    export = plan.config.trace.export
    if export is None:
        return None
    from kickwheel.trace.otlp.send import sending

    return (await stack.enter_async_context(sending(export.target()))).take


def _memory(app: App, part: Part) -> Memory | None:
    """What an agent remembers, as its loop uses it."""
    named = part.memory if isinstance(part, AgentPart) else ()
    memories = [app.live["memory", name] for name in named]
    return memories[0] if len(memories) == 1 else Together(memories) if memories else None


def _sharing(
    stack: AsyncExitStack,
) -> Callable[[Any, Callable[[], AbstractAsyncContextManager[Any]]], Any]:
    shared: dict[Any, Any] = {}
    lock = asyncio.Lock()

    async def share(key: Any, make: Callable[[], AbstractAsyncContextManager[Any]]) -> Any:
        async with lock:
            if key not in shared:
                shared[key] = await stack.enter_async_context(make())
            return shared[key]

    return share
