"""Calls that fit the tools that were offered."""

import json

from kickwheel.agents.tools.schema import mistakes
from kickwheel.flywheel.curate.extract import Candidate
from kickwheel.records import ToolCall, ToolSpec


def invalid(candidate: Candidate) -> str | None:
    """Why the answer's calls cannot be right; `None` where they can, or where there are none."""
    for call in candidate.answer.tool_calls:
        wrong = _wrong(call, candidate.tools)
        if wrong is not None:
            return wrong
    return None


def _wrong(call: ToolCall, tools: tuple[ToolSpec, ...]) -> str | None:
    tool = next((tool for tool in tools if tool.name == call.name), None)
    if tool is None:
        return "a tool that was not offered" if tools else "a call, and no tools were recorded"
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError:
        return "arguments are no JSON"
    if not isinstance(arguments, dict):
        return "arguments are no JSON object"
    return "arguments break the tool's schema" if mistakes(arguments, tool.parameters) else None
