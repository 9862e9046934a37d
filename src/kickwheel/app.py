"""One YAML file, checked and opened: names become live objects.

The only place where parts meet. `check_app` tells all mistakes of a file at once; `open_app` opens
what is asked for and all that it needs, in order, and closes it in reverse.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from kickwheel.agents.ask import Answered, ask
from kickwheel.agents.caller import Caller, acting_for
from kickwheel.agents.events import Event, Finished
from kickwheel.agents.keeper import Keeper
from kickwheel.agents.memory import Memory, Together
from kickwheel.agents.offered import Offered, offered
from kickwheel.agents.preview import first
from kickwheel.agents.run import AgentPart
from kickwheel.agents.work import Worker
from kickwheel.appfile import (
    AppFile,
    Flywheel,
    check_loop,
    check_offer,
    check_ours,
    check_record,
)
from kickwheel.core import redact
from kickwheel.core.config import Document, check, read_yaml
from kickwheel.core.errors import ConfigError, KickwheelError, Mistake, UsageError
from kickwheel.core.files import home
from kickwheel.core.journal import KeptRun, Question, RunState
from kickwheel.core.plugins import Context, Name, Part, kinds, load, nearest
from kickwheel.core.store import Store, open_store
from kickwheel.core.store.files import verify
from kickwheel.models.caller import whose
from kickwheel.models.chat import ChatRequest, Model
from kickwheel.models.sent import Sent, sent
from kickwheel.records import Message, Trace, wire
from kickwheel.trace.record import Recorder
from kickwheel.trace.store import Traces

P = TypeVar("P", bound=Part)

SHELVES = ("models", "tools", "memory", "agents")
"""Shelves in the order in which their parts are opened."""
ANSWERING = ("agents", "models")
"""Shelves whose parts answer questions."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A file that was checked: every part a valid object, every name leads somewhere."""

    file: Path
    config: AppFile
    parts: Mapping[tuple[str, str], Part]
    store: Path
    """The folder of the store."""
    database: str | None = field(default=None, repr=False)
    """URL of the store's database, which may hold a password; `None` where it is in the folder."""

    @property
    def folder(self) -> Path:
        """The folder that relative paths in the file start from."""
        return self.file.parent

    @property
    def loop(self) -> Flywheel:
        """The flywheel section.

        Raises:
            UsageError: the file has none.
        """
        if self.config.flywheel is None:
            raise UsageError(
                f"{self.file}: has no flywheel section. Add one, for example\n"
                "flywheel: {model: specialist, training_type: lora}"
            )
        return self.config.flywheel


@dataclass(frozen=True, slots=True)
class Trainable:
    """A model that can be tuned."""

    base: str
    """Name of the base, as the catalog takes it."""
    adapter: str
    """The ref that a promotion moves."""


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
        for shelf in ("agents", "models"):
            if (shelf, name) in self.live:
                return cast(Model, self.live[shelf, name])
        known = {n for s, n in self.live if s in ("agents", "models")}
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


def default(plan: Plan) -> str:
    """The agent or model that answers where nobody is named.

    Raises:
        UsageError: there are several, and the file does not say which.
    """
    loop = plan.config.flywheel
    if loop is not None:
        return loop.agent or loop.model
    for shelf in ("agents", "models"):
        names = [name for s, name in plan.parts if s == shelf]
        if len(names) == 1:
            return names[0]
        if names:
            raise UsageError(f"{plan.file}: name one of {', '.join(names)} (--as)")
    raise UsageError(
        f"{plan.file}: has neither agents nor models. Add one, for example\n"
        "models: {general: {kind: local}}"
    )


def trained(plan: Plan) -> Trainable:
    """The model that the flywheel tunes: its base, and the ref that a promotion moves.

    Raises:
        UsageError: the file has no flywheel, or its model names no adapter ref.
    """
    part = plan.parts["models", plan.loop.model]
    base, adapter = getattr(part, "base", None), getattr(part, "adapter", None)
    if not isinstance(base, str) or not isinstance(adapter, str):
        raise UsageError(f"{plan.file}: models.{plan.loop.model} needs a base and an adapter ref")
    beside = plan.folder / base
    return Trainable(str(beside) if beside.exists() else base, adapter)


def check_app(path: Path, *, complete: bool = False) -> Plan:
    """The app that the file, the folder's `app.yml`, or a snapshot describes.

    A snapshot is checked byte by byte, and stays as it is: its store is under KICKWHEEL_HOME.

    Args:
        complete: whether files, folders and code that parts name must be there, too.
    Raises:
        ConfigError: the file has mistakes; all of them are told, each with line and column.
        UsageError: the folder has no `app.yml`.
        StoreError: a byte of the snapshot was changed.
    """
    snapshot = (path / "snapshot.json").exists()
    if snapshot:
        verify(path)
        sys.dont_write_bytecode = True
        path = path / "app"
    if path.is_dir() and not (path / "app.yml").exists():
        raise UsageError(f"there is no app.yml in {path.resolve()}. `kickwheel init` makes one.")
    document = read_yaml(path / "app.yml" if path.is_dir() else path)
    check_ours(document)
    mistakes: list[Mistake] = []
    config = check(document, (), document.data, AppFile, mistakes)
    parts: dict[tuple[str, str], Part] = {}
    for shelf in SHELVES:
        entries = document.data.get(shelf)
        if isinstance(entries, Mapping):
            for name, options in entries.items():
                part = _part(document, shelf, str(name), options, mistakes)
                if part is not None:
                    parts[shelf, str(name)] = part
    if complete:
        _check_absent(document, parts, mistakes)
    _check_names(document, parts, mistakes)
    _check_circles(document, parts, mistakes)
    _check_money(document, parts, mistakes)
    check_loop(document, mistakes)
    check_record(document, mistakes)
    check_offer(document, mistakes)
    if mistakes or config is None:
        raise ConfigError(sorted(mistakes, key=lambda m: (m.line, m.column)))
    file = document.file.resolve()
    folder, database = config.place()
    store = file.parent / folder
    if snapshot:
        store, database = home() / "snapshots" / file.parents[1].name, None
    return Plan(file, config, parts, store, database)


def no_app(folder: Path) -> Plan:
    """An app without any parts, whose store is in the folder."""
    config = AppFile()
    return Plan(folder.resolve() / "app.yml", config, {}, folder.resolve() / config.place()[0])


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
        for shelf, name in _order(plan, only):
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


async def resumed(app: App, run: KeptRun) -> Finished:
    """Goes on with an agent's run that another program left, or that waited for a person.

    Raises:
        UsageError: the app has no such agent any more.
    """
    agent = app.live.get(("agents", run.agent))
    if not isinstance(agent, Worker):
        raise UsageError(f'run {run.id} belongs to an agent "{run.agent}" that is not in this app')
    asked = wire.from_bytes(run.asked, ChatRequest)
    who = Caller(user=run.asker, tenant=run.tenant, run=run.id)
    with acting_for(who), app.recorder.trace(agent.name, agent.name):
        async for event in agent.run(asked.messages, asked):
            if isinstance(event, Finished):
                return event
    raise AssertionError("the last event of an agent is Finished")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a run of an agent stands."""

    id: str
    agent: str
    state: RunState
    questions: tuple[Question, ...] = ()
    """What persons are asked before it goes on."""
    answer: str = ""
    """Of a run that is done."""
    error: str | None = None
    """Why it failed."""
    created: float = 0.0
    """Unix time, seconds, here and below."""
    updated: float = 0.0


def standing(store: Store, run: KeptRun) -> Standing:
    """How the run stands."""
    done = wire.from_bytes(run.result, Finished) if run.result else None
    return Standing(
        id=run.id,
        agent=run.agent,
        state=run.state,
        questions=tuple(store.runs.questions(run.id)) if run.state == "waiting" else (),
        answer=(done.answer.content or "") if done else "",
        error=run.error,
        created=run.created,
        updated=run.updated,
    )


def runs(app: Path, *, limit: int = 50) -> list[Standing]:
    """The runs of an app's agents in which something happened last, newest first."""
    plan = check_app(app)
    with open_store(plan.store, plan.database) as store:
        return [standing(store, run) for run in store.runs.recent(limit)]


def answer(app: Path, run: str, text: str, *, question: str = "") -> Standing:
    """Gives a person's answer to a run that waits for it, and goes on with the run.

    Args:
        run: its id, or how the only one begins.
        question: the path of what is answered, where the run asks several things.
    Raises:
        UsageError: there is no such run, it asks nothing, or this is none of the choices.
    """
    if not text.strip():
        raise UsageError("the answer is empty")
    return asyncio.run(_gone_on(app, run, text, question))


def resume(app: Path, run: str) -> Standing:
    """Goes on with a run that its program left, that failed, or that was cancelled.

    Raises:
        UsageError: there is no such run.
    """
    return asyncio.run(_gone_on(app, run))


def cancel(app: Path, run: str) -> Standing:
    """Ends a run, wherever it goes on.

    Raises:
        UsageError: there is no such run, or it has ended.
    """
    plan = check_app(app)
    with open_store(plan.store, plan.database) as store:
        found = store.runs.named(run)
        if not store.runs.cancel(found.id):
            raise UsageError(f"run {found.id} has ended already: {found.state}")
        return standing(store, store.runs.named(found.id))


async def _gone_on(app: Path, run: str, text: str = "", question: str = "") -> Standing:
    plan = check_app(app)
    with open_store(plan.store, plan.database) as store:
        found = store.runs.named(run)
        if text:
            store.runs.answer(found.id, text, question)
    async with open_app(plan, only=[found.agent]) as opened:
        await resumed(opened, found)
        return standing(opened.store, opened.store.runs.named(found.id))


def run(
    app: Path,
    question: str,
    *,
    name: str | None = None,
    key: str = "",
    on_event: Callable[[Event], None] | None = None,
) -> Answered:
    """What an agent or model of the app answers to one question.

    Args:
        app: the app file, its folder, or a snapshot.
        name: of the agent or model; by default the app's own.
        key: asked again under the same key, an agent goes on where it was, or gives the same
            answer again.
        on_event: told what happens as it happens.
    Raises:
        UsageError: the question is empty.
        KickwheelError: the app does not open, or there is no answer.
    """
    if not question.strip():
        raise UsageError('the question is empty. Ask something, in quotes: "Where is my order?"')

    async def asked() -> Answered:
        plan = check_app(app)
        wanted = name or default(plan)
        async with open_app(plan, only=[wanted]) as opened:
            messages = [Message(role="user", content=question)]
            with acting_for(Caller(key=key)):
                return await ask(opened.model(wanted), messages, opened.recorder, on_event=on_event)

    return asyncio.run(asked())


def show(app: Path, question: str, *, name: str | None = None) -> Sent:
    """The request that would be sent first for a question, exactly as it would be; no model is
    asked, and no engine started. Only keys, tokens and passwords in it are hidden.

    Args:
        app: the app file, its folder, or a snapshot.
        name: of the agent or model; by default the app's own.
    Raises:
        UsageError: the agent answers without a model, or would do something with effects before.
        KickwheelError: the app does not open.
    """

    async def looked() -> Sent:
        plan = check_app(app)
        wanted = name or default(plan)
        async with open_app(plan, only=[wanted], dry=True) as opened:
            messages = [Message(role="user", content=question)]
            found = sent(*await first(opened.model(wanted), messages))
            return replace(found, url=redact.secrets(found.url), body=redact.secrets(found.body))

    return asyncio.run(looked())


def schema() -> dict[str, Any]:
    """JSON Schema of the file, with every kind that is installed."""
    whole = AppFile.model_json_schema()
    for shelf in SHELVES:
        parts = [
            (kind, load(shelf, kind, Path()).model_json_schema()) for kind in sorted(kinds(shelf))
        ]
        for kind, part in parts:
            part["properties"]["kind"] = {"const": kind}
            part.setdefault("required", []).append("kind")
        code = {
            "type": "object",
            "properties": {"kind": {"type": "string", "pattern": ":"}},
            "required": ["kind"],
            "description": "A class of your own, `package.module:Class`.",
        }
        whole["properties"][shelf]["additionalProperties"] = {
            "anyOf": [*(part for _, part in parts), code]
        }
    whole["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    whole["title"] = "kickwheel app file"
    return whole


def _part(
    document: Document, shelf: str, name: str, options: object, mistakes: list[Mistake]
) -> Part | None:
    where = (shelf, name)
    if isinstance(options, str):
        options = {"kind": options}
    if not isinstance(options, Mapping) or not isinstance(options.get("kind"), str):
        known = ", ".join(sorted(kinds(shelf)))
        what = f'"kind" is missing: one of {known}, or package.module:Class'
        mistakes.append(document.mistake(where, what))
        return None
    try:
        kind = load(shelf, options["kind"], document.file.parent.resolve())
    except UsageError as error:
        mistakes.append(document.mistake((*where, "kind"), str(error)))
        return None
    part = check(document, where, options, kind, mistakes)
    if part is not None:
        for key, wrong in part.mistakes(document.file.parent):
            mistakes.append(document.mistake((*where, key), wrong))
    return part


def _check_absent(
    document: Document, parts: Mapping[tuple[str, str], Part], mistakes: list[Mistake]
) -> None:
    folder = document.file.parent.resolve()
    for where, part in parts.items():
        for key, what in part.absent(folder):
            mistakes.append(document.mistake((*where, key), what))


def needs(part: BaseModel) -> list[tuple[tuple[str | int, ...], str, str]]:
    """The names of other parts that a part, or a section in it, holds: (key, shelf, name)."""
    found: list[tuple[tuple[str | int, ...], str, str]] = []
    for field_name, info in type(part).model_fields.items():
        key = info.alias or field_name
        shelf = next((m.shelf for m in info.metadata if isinstance(m, Name)), None)
        value = getattr(part, field_name)
        for place, inner in _leaves((key,), value):
            if isinstance(inner, BaseModel):
                found += [((*place, *deeper), *named) for deeper, *named in needs(inner)]  # type: ignore[misc]
            elif shelf is not None and isinstance(inner, str):
                found.append((place, shelf, inner))
    return found


def _leaves(
    place: tuple[str | int, ...], value: object
) -> Iterator[tuple[tuple[str | int, ...], object]]:
    """What lists and mappings hold, with the way there."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves((*place, str(key)), inner)
    elif isinstance(value, list | tuple):
        for position, inner in enumerate(value):
            yield from _leaves((*place, position), inner)
    else:
        yield place, value


def _check_names(
    document: Document, parts: Mapping[tuple[str, str], Part], mistakes: list[Mistake]
) -> None:
    for (shelf, name), part in parts.items():
        for key, other, wanted in needs(part):
            named = document.data.get(other) or {}
            if wanted not in named:
                one = other.removesuffix("s")
                what = f'no {one} named "{wanted}". {nearest(wanted, named)}'
                mistakes.append(document.mistake((shelf, name, *key), what))


def _check_circles(
    document: Document, parts: Mapping[tuple[str, str], Part], mistakes: list[Mistake]
) -> None:
    done: set[tuple[str, str]] = set()

    def visit(key: tuple[str, str], way: tuple[tuple[str, str], ...]) -> None:
        way = (*way, key)
        for where, shelf, name in needs(parts[key]):
            other = shelf, name
            if other in way:
                circle = " → ".join(f"{s}.{n}" for s, n in [*way[way.index(other) :], other])
                what = f"parts need each other in a circle: {circle}"
                mistakes.append(document.mistake((*key, *where), what))
            elif other in parts and other not in done:
                visit(other, way)
        done.add(key)

    for key in parts:
        if key not in done:
            visit(key, ())


def _check_money(
    document: Document, parts: Mapping[tuple[str, str], Part], mistakes: list[Mistake]
) -> None:
    """A budget of dollars counts nothing where a model's tokens have no prices."""
    for key, part in parts.items():
        if getattr(getattr(part, "budget", None), "cost_usd", None) is None:
            continue
        asked, found = [key], {key}
        while asked:
            one = asked.pop()
            more = {(shelf, name) for _, shelf, name in needs(parts[one])} & parts.keys() - found
            found |= more
            asked += more
            if getattr(parts[one], "prices", 0) is None:
                what = (
                    f"cannot count what {one[1]} costs, which has no prices. Give it some, for "
                    "example prices: {input: 0.25, output: 2.0}"
                )
                mistakes.append(document.mistake((*key, "budget", "cost_usd"), what))


def _order(plan: Plan, only: Collection[str] | None) -> list[tuple[str, str]]:
    """Parts in the order to open: what a part needs comes before it."""
    ordered: list[tuple[str, str]] = []

    def visit(key: tuple[str, str]) -> None:
        if key in ordered:
            return
        for _, shelf, name in needs(plan.parts[key]):
            visit((shelf, name))
        ordered.append(key)

    wanted = [k for k in plan.parts if only is None or (k[0] in ANSWERING and k[1] in only)]
    if only is not None:
        known = {name for shelf, name in plan.parts if shelf in ANSWERING}
        for name in only:
            if name not in known:
                raise UsageError(
                    f'{plan.file}: no agent or model named "{name}". {nearest(name, known)}'
                )
    for key in sorted(wanted, key=lambda k: SHELVES.index(k[0])):
        visit(key)
    return ordered


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
