"""The GenAI conventions as they are: messages whole, as JSON or as nested attributes.

They stand among a span's attributes, or in an event `gen_ai.client.inference.operation.details`
(Strands, and who keeps content apart).
"""

from kickwheel.records import Message, SpanKind, genai
from kickwheel.trace.otlp import parts
from kickwheel.trace.otlp.observed import Observed
from kickwheel.trace.otlp.understood import Understood

DETAILS = "gen_ai.client.inference.operation.details"

KINDS: dict[str, SpanKind] = {
    "chat": "model",
    "text_completion": "model",
    "generate_content": "model",
    "embeddings": "model",
    "retrieval": "retrieval",
    "execute_tool": "tool",
    "invoke_agent": "agent",
    "invoke_workflow": "step",
    "create_agent": "agent",
    "plan": "agent",
}
"""By `gen_ai.operation.name`."""

_NAMES: dict[SpanKind, str] = {"agent": genai.AGENT_NAME, "step": "gen_ai.workflow.name"}
"""Where a span of that kind has its name."""
_SAID = (
    genai.INPUT_MESSAGES,
    genai.OUTPUT_MESSAGES,
    genai.SYSTEM_INSTRUCTIONS,
    genai.TOOL_DEFINITIONS,
    genai.TOOL_ARGUMENTS,
    genai.TOOL_RESULT,
)


def understand(span: Observed, found: Understood) -> None:
    """Adds what the span says in these names."""
    told = span.attributes
    kind = KINDS.get(str(told.get(genai.OPERATION)))
    if kind == "tool":
        name = told.get(genai.TOOL_NAME)
        found.called(kind, name)
        found.ran(
            told.get(genai.TOOL_CALL_ID),
            name,
            told.get(genai.TOOL_ARGUMENTS),
            told.get(genai.TOOL_RESULT),
        )
    elif kind is not None:
        found.called(kind, told.get(_NAMES.get(kind, genai.REQUEST_MODEL)))
    instructions = ""
    for said in (told, *(e.attributes for e in span.events if e.name == DETAILS)):
        found.asked(said.get(genai.INPUT_MESSAGES))
        found.answered(said.get(genai.OUTPUT_MESSAGES))
        found.output = _whole(found.output)
        found.offered(said.get(genai.TOOL_DEFINITIONS))
        instructions = instructions or parts.text(said.get(genai.SYSTEM_INSTRUCTIONS) or "")
    if instructions and not any(message.role == "system" for message in found.input):
        found.input = (Message(role="system", content=instructions), *found.input)
    found.used.update(_SAID)


def _whole(said: tuple[Message, ...]) -> tuple[Message, ...]:
    """The answer without the pieces that it came in, which ADK tells of a stream before it."""
    if len(said) < 2:
        return said
    *pieces, last = said
    words = "".join(piece.content or "" for piece in pieces)
    calls = {call.id for piece in pieces for call in piece.tool_calls}
    whole = words == (last.content or "") and calls <= {call.id for call in last.tool_calls}
    return (last,) if whole else said
