"""Questions that an MCP server puts to a person while it works (elicitation)."""

import asyncio
import contextvars
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kickwheel.agents.durable import person
from kickwheel.core.errors import UsageError

if TYPE_CHECKING:
    from mcp.client import ClientRequestContext
    from mcp_types import ElicitRequestParams, ElicitResult

_NO = ("no", "decline", "cancel", "")


@dataclass(slots=True, eq=False)
class _Call:
    """A call that is on its way, and the questions that the server asks in it."""

    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    asked: set[asyncio.Task["ElicitResult"]] = field(default_factory=set)


_call: contextvars.ContextVar[_Call | None] = contextvars.ContextVar("kickwheel_mcp", default=None)


class Questions:
    """What the server of one connection asks, put to the person behind the call it is about."""

    def __init__(self) -> None:
        self._on_the_way: list[_Call] = []

    @contextmanager
    def of_call(self) -> Iterator[None]:
        """Around one call; its questions end with it."""
        call = _Call()
        token = _call.set(call)
        self._on_the_way.append(call)
        try:
            yield
        finally:
            self._on_the_way.remove(call)
            _call.reset(token)
            for task in call.asked:
                task.cancel()

    async def ask(
        self, context: "ClientRequestContext", params: "ElicitRequestParams"
    ) -> "ElicitResult":
        """A person's answer in the server's form; `cancel` where nobody can be asked."""
        from mcp_types import ElicitResult

        # The protocol of 2026 asks within the call; before, a question names no call, so that only
        # one that is alone on its way can be meant.
        call = _call.get()
        if call is None and len(self._on_the_way) == 1:
            call = self._on_the_way[0]
        if call is None:
            return ElicitResult(action="cancel")
        task = asyncio.create_task(_answer(params), context=call.context.copy())
        call.asked.add(task)
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
            call.asked.discard(task)
        if task.cancelled():  # The run ended, or waits for days: it will call again.
            return ElicitResult(action="cancel")
        try:
            return task.result()
        except UsageError:  # This run cannot wait for anybody.
            return ElicitResult(action="cancel")


async def _answer(question: "ElicitRequestParams") -> "ElicitResult":
    from mcp_types import ElicitResult

    if question.mode == "url":
        text = f"{question.message}\nOpen {question.url} and say yes when you are done."
        said = (await person(text, ("yes", "no"))).strip().casefold()
        return ElicitResult(action="accept" if said in ("yes", "y") else "decline")
    content: dict[str, Any] = {}
    fields = dict(question.requested_schema.get("properties") or {})
    if not fields:
        said = (await person(question.message, ("yes", "no"))).strip().casefold()
        return ElicitResult(action="accept" if said in ("yes", "y") else "decline", content={})
    for name, schema in fields.items():
        about = schema.get("description") or ""
        named = f"{name}: {about}".removesuffix(": ") if len(fields) > 1 else about
        said = await person(f"{question.message}\n{named}".strip(), _choices(schema))
        value = _read(said.strip(), schema)
        if value is None:
            return ElicitResult(action="decline")
        content[name] = value
    return ElicitResult(action="accept", content=content)


def _choices(schema: Mapping[str, Any]) -> tuple[str, ...]:
    if schema.get("type") == "boolean":
        return ("yes", "no")
    return tuple(str(option) for option in schema.get("enum") or ())


def _read(said: str, schema: Mapping[str, Any]) -> Any:
    """The answer as the schema wants it; `None` where it does not fit, or says no."""
    options = schema.get("enum")
    if options:
        return next((o for o in options if str(o).casefold() == said.casefold()), None)
    match schema.get("type"):
        case "boolean":
            return {"yes": True, "y": True, "true": True, "no": False, "n": False}.get(
                said.casefold()
            )
        case "integer":
            return int(said) if said.removeprefix("-").isdecimal() else None
        case "number":
            try:
                return float(said)
            except ValueError:
                return None
    return None if said.casefold() in _NO else said
