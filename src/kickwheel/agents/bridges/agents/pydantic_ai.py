"""`kind: pydantic_ai`: PydanticAI's agents.

What a caller's system messages say comes to the agent as further instructions; its own stay.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from kickwheel.agents.bridges.heard import Told, answered, called, returned, used
from kickwheel.agents.bridges.pydantic_ai import INSTALL
from kickwheel.agents.bridges.worker import TheirAgent, names
from kickwheel.agents.events import Text
from kickwheel.core.errors import ModelError
from kickwheel.records import Message

SYSTEM = ("system", "developer")


class PydanticAiAgent(TheirAgent):
    """An agent of PydanticAI."""

    install = INSTALL

    async def events(self, theirs: Any, messages: Sequence[Message]) -> AsyncGenerator[Told]:
        """What the agent does."""
        from pydantic_ai import DeferredToolRequests
        from pydantic_ai.capabilities import ReinjectSystemPrompt

        said = "\n\n".join(message.content or "" for message in messages if message.role in SYSTEM)
        tools = names(messages)
        async with theirs.iter(
            message_history=[_turn(m, tools) for m in messages if m.role not in SYSTEM],
            instructions=said or None,
            capabilities=[ReinjectSystemPrompt()],
        ) as run:
            async for node in run:
                if theirs.is_call_tools_node(node):
                    answer, count = node.model_response, node.model_response.usage
                    tokens = count.input_tokens, count.output_tokens, count.cache_read_tokens
                    yield used(*tokens, answer.model_name or "")
                elif not theirs.is_model_request_node(node):
                    continue
                async with node.stream(run.ctx) as events:
                    async for event in events:
                        if told := _told(event):
                            yield told
        if isinstance(run.result.output, DeferredToolRequests):
            raise ModelError("the agent waits for somebody else's calls", again=False)
        yield answered(run.result.output)


def _told(event: Any) -> Told | None:
    """What an event of a model's answer, or of the tools that it calls, tells."""
    part: Any = getattr(event, "part", None)
    match event.event_kind:
        case "part_start" if part.part_kind == "text":
            return Text(part.content)
        case "part_delta" if event.delta.part_delta_kind == "text":
            return Text(event.delta.content_delta)
        case "function_tool_call":
            return called(part.tool_call_id, part.tool_name, part.args or "{}")
        case "function_tool_result":
            failed = part.part_kind == "retry-prompt"
            result = part.model_response() if failed else part.content
            return returned(part.tool_call_id, result, failed=failed)
    return None


def _turn(message: Message, tools: Mapping[str, str]) -> Any:
    """A message of the conversation as PydanticAI has it; `tools`: their names, by call."""
    from pydantic_ai import messages as theirs

    words, call = message.content or "", message.tool_call_id
    if message.role == "assistant":
        said = [theirs.TextPart(words)] if words else []
        calls = [theirs.ToolCallPart(c.name, c.arguments, c.id) for c in message.tool_calls]
        return theirs.ModelResponse([*said, *calls])
    if call is not None:
        return theirs.ModelRequest([theirs.ToolReturnPart(tools.get(call, ""), words, call)])
    return theirs.ModelRequest([theirs.UserPromptPart(words)])
