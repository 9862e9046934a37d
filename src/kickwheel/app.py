"""One YAML file, checked and opened: names become live objects.

The only place where parts meet. `check_app` tells all mistakes of a file at once; `open_app` opens
what is asked for and all that it needs, in order, and closes it in reverse.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from kickwheel.agents.ask import Answered, ask
from kickwheel.agents.events import Event
from kickwheel.appfile import AppFile, Flywheel, check_loop
from kickwheel.core.config import Document, check, read_yaml
from kickwheel.core.errors import ConfigError, KickwheelError, Mistake, UsageError
from kickwheel.core.files import home
from kickwheel.core.plugins import Context, Name, Part, kinds, load, nearest
from kickwheel.core.store import Store, open_store
from kickwheel.core.store.files import verify
from kickwheel.models.chat import Model
from kickwheel.records import Message
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
            raise UsageError(f"{plan.file}: name one of {', '.join(names)}")
    raise UsageError(f"{plan.file}: has neither agents nor models")


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


def check_app(path: Path) -> Plan:
    """The app that the file, the folder's `app.yml`, or a snapshot describes.

    A snapshot is checked byte by byte, and stays as it is: its store is under KICKWHEEL_HOME.

    Raises:
        ConfigError: the file has mistakes; all of them are told, each with line and column.
        StoreError: a byte of the snapshot was changed.
    """
    snapshot = (path / "snapshot.json").exists()
    if snapshot:
        verify(path)
        sys.dont_write_bytecode = True
        path = path / "app"
    document = read_yaml(path / "app.yml" if path.is_dir() else path)
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
    _check_names(document, parts, mistakes)
    _check_circles(document, parts, mistakes)
    check_loop(document, mistakes)
    if mistakes or config is None:
        raise ConfigError(sorted(mistakes, key=lambda m: (m.line, m.column)))
    file = document.file.resolve()
    folder, database = config.place()
    store = file.parent / folder
    if snapshot:
        store, database = home() / "snapshots" / file.parents[1].name, None
    return Plan(file, config, parts, store, database)


@asynccontextmanager
async def open_app(
    path: Path | Plan, *, only: Collection[str] | None = None
) -> AsyncGenerator[App]:
    """The app, open.

    Args:
        path: the file, its folder, or what `check_app` made of it.
        only: names of the models and agents that are wanted; what they need is opened too.
    Raises:
        ConfigError: the file has mistakes.
        KickwheelError: a part does not open; the text names it.
    """
    plan = path if isinstance(path, Plan) else check_app(path)
    async with AsyncExitStack() as stack:
        store = stack.enter_context(open_store(plan.store, plan.database))
        traces = Traces(store)
        recorder = stack.enter_context(Recorder(traces))
        app = App(plan, store, traces, recorder)
        share = _sharing(stack)
        for shelf, name in _order(plan, only):
            context = Context(name, plan.folder, store, app.live, share=share)
            try:
                app.live[shelf, name] = await stack.enter_async_context(
                    plan.parts[shelf, name].open(context)
                )
            except KickwheelError as error:
                error.add_note(f"while opening {shelf}.{name} of {plan.file}")
                raise
        yield app


def run(
    app: Path,
    question: str,
    *,
    name: str | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Answered:
    """What an agent or model of the app answers to one question.

    Args:
        app: the app file, its folder, or a snapshot.
        name: of the agent or model; by default the app's own.
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
            return await ask(opened.model(wanted), messages, opened.recorder, on_event=on_event)

    return asyncio.run(asked())


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
