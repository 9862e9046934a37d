"""One call of a tool, as a model wrote it: read, checked, run within limits, watched.

Whatever happens, the agent gets a text: the tool's own, or «error: …» with what went wrong. Only
the end of the whole request (a cancelled task) leaves here as an exception.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from kickwheel.agents.tools.schema import mistakes
from kickwheel.agents.tools.tool import InvalidArguments, Limits, Tool
from kickwheel.core import redact
from kickwheel.core.errors import KickwheelError, ToolError
from kickwheel.core.plugins import nearest
from kickwheel.records import Message, ToolCall, genai
from kickwheel.trace.record import OpenSpan, span

_log = logging.getLogger(__name__)
_left: set[asyncio.Task[str]] = set()


class _NoJson(InvalidArguments):
    """The arguments are no JSON object."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a call."""

    text: str
    state: Literal["done", "failed", "invalid"] = "done"
    """`failed`: the tool raised or took too long. `invalid`: it was never called, because the
    model's call names no tool or does not fit its schema."""
    json: bool = True
    """Whether the arguments were a JSON object at all."""


async def call(tools: Mapping[str, Tool], asked: ToolCall) -> Result:
    """The result of what the model asked for; a `tool` span says so to the trace.

    Args:
        tools: what was offered, by name.
        asked: the call as the model wrote it.
    """
    with span("tool", asked.name) as noted:
        noted.attributes[genai.OPERATION] = "execute_tool"
        noted.attributes[genai.TOOL_NAME] = asked.name
        noted.attributes[genai.TOOL_CALL_ID] = asked.id
        noted.input = (Message(role="assistant", tool_calls=(asked,)),)
        result = await _call(tools, asked, noted)
        noted.output = (Message(role="tool", content=result.text, tool_call_id=asked.id),)
        return result


async def _call(tools: Mapping[str, Tool], asked: ToolCall, noted: OpenSpan) -> Result:
    try:
        arguments = _read(asked.arguments)
        tool = _find(tools, asked.name, arguments)
        limits: Limits = getattr(tool, "limits", None) or Limits()
        text = await _within(limits.timeout_s, tool, arguments)
        if not isinstance(text, str):
            raise ToolError(f"the tool gave {type(text).__name__} where text was due")
        return Result(_cut(text, limits.result_chars))
    except _NoJson as error:
        noted.fail(error)
        return Result(f"error: {error}", "invalid", json=False)
    except InvalidArguments as error:
        noted.fail(error)
        return Result(f"error: {error}", "invalid")
    except Exception as error:  # A tool is anybody's code: its failure is the agent's to handle.
        noted.fail(error)
        _log.info("tool %s failed", asked.name, exc_info=error)
        return Result(f"error: {redact.text(_told(error))}", "failed")


def _read(text: str) -> dict[str, Any]:
    try:
        # Many models write nothing where there are no arguments.
        arguments = msgspec.json.decode(text) if text.strip() else {}
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise _NoJson(f"the arguments are not JSON ({error}): {text[:300]}") from error
    if not isinstance(arguments, dict):
        raise _NoJson(f"the arguments must be a JSON object: {text[:300]}")
    return arguments


def _find(tools: Mapping[str, Tool], name: str, arguments: Mapping[str, Any]) -> Tool:
    """The tool of that name, if the arguments fit its schema."""
    if name not in tools:
        raise InvalidArguments(f'there is no tool "{name}". {nearest(name, dict(tools))}')
    wrong = mistakes(arguments, tools[name].spec.parameters)
    if wrong:
        raise InvalidArguments("; ".join(wrong))
    return tools[name]


async def _within(timeout_s: float, tool: Tool, arguments: dict[str, Any]) -> Any:
    task = asyncio.create_task(_guarded(tool, arguments))
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
    except asyncio.CancelledError:
        _leave(task)
        raise
    if not done:
        _leave(task)
        raise ToolError(f"no answer within {timeout_s:g} s")
    return task.result()


async def _guarded(tool: Tool, arguments: dict[str, Any]) -> str:
    try:
        return await tool.call(arguments)
    except SystemExit as error:
        raise ToolError("the tool tried to end the program") from error
    except asyncio.CancelledError as error:
        asking = asyncio.current_task()
        if asking is not None and asking.cancelling():
            raise
        raise ToolError("the tool cancelled itself") from error


def _leave(task: asyncio.Task[str]) -> None:
    """Cancels the task without waiting for it: it may not want to end."""
    task.cancel()
    _left.add(task)
    task.add_done_callback(_forget)


def _forget(task: asyncio.Task[str]) -> None:
    _left.discard(task)
    if not task.cancelled():
        task.exception()  # Looked at, so that asyncio does not complain.


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    return f"{text[:most]}\n[{len(text) - most:,} more characters were cut off; ask for less]"


def _told(error: Exception) -> str:
    name, text = type(error).__name__, str(error)
    if not text:
        return name
    return text if isinstance(error, KickwheelError | OSError) else f"{name}: {text}"
