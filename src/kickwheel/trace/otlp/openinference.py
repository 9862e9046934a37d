"""OpenInference's names, which Phoenix and the instrumentations of LlamaIndex, CrewAI, smolagents
and DSPy write; `trace.openinference` reads them."""

from collections.abc import Mapping
from typing import Any

from kickwheel.records import SpanKind, genai
from kickwheel.trace import openinference
from kickwheel.trace.openinference import KIND
from kickwheel.trace.otlp.observed import Observed
from kickwheel.trace.otlp.understood import Understood

_STEPS = ("CHAIN", "PROMPT", "EVALUATOR", "UNKNOWN")
_ASKED = ("llm.input_messages", "llm.output_messages", "llm.prompts", "llm.token_count")
_STARTS = ("llm", "input", "output", "retrieval.documents")


def understand(span: Observed, found: Understood) -> None:
    """Adds what the span says in these names.

    Raises:
        ValueError: a message has parts that are no text, or a call no name.
    """
    told = span.attributes
    sort = told.get(KIND)
    if sort is None and not any(name.startswith(("llm.", "input.value")) for name in told):
        return
    others = {
        name.removesuffix("type")
        for name, sort in told.items()
        if name.endswith(".message_content.type") and sort != "text"
    }
    found.unread += [f"a part of type {told[start + 'type']}" for start in others]
    told = {n: value for n, value in told.items() if not n.startswith(tuple(others))}
    said = openinference.told(told, span.name, None if sort is not None else "UNKNOWN")
    frame = said.attributes.get(KIND) in _STEPS or _frames(said.kind, told)
    kind: SpanKind = "step" if frame else said.kind
    names = {"agent": genai.AGENT_NAME, "tool": genai.TOOL_NAME}
    found.called(kind if sort is not None else None, said.attributes.get(names.get(kind, "")))
    found.input = found.input or said.input
    found.output = found.output or said.output
    found.tools = found.tools or said.tools
    found.tell(said.attributes)
    if sort is not None:
        found.use(span.attributes, _STARTS)


def _frames(kind: SpanKind, told: Mapping[str, Any]) -> bool:
    """Whether a model's span only stands around the one that says what was asked and answered:
    LlamaIndex's methods call each other, and each has one that tells a function's arguments."""
    if kind != "model" or told.get("input.mime_type") != "application/json":
        return False
    return not any(name.startswith(_ASKED) for name in told)
