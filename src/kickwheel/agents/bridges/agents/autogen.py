"""`kind: autogen`: agents and teams of AutoGen's AgentChat.

An agent is given the whole conversation; a team, which has no place for it, what was said. Name a
function that makes them: they remember, so that one object does one run after the other.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from kickwheel.agents.bridges.autogen import INSTALL
from kickwheel.agents.bridges.heard import Told, answered, called, returned, used
from kickwheel.agents.bridges.worker import TheirAgent, names
from kickwheel.agents.events import Text
from kickwheel.records import Message


class AutogenAgent(TheirAgent):
    """An agent or a team of AutoGen."""

    install = INSTALL
    remembers = True

    async def events(self, theirs: Any, messages: Sequence[Message]) -> AsyncGenerator[Told]:
        """What the agent or team does."""
        from autogen_agentchat.base import TaskResult, Team
        from autogen_agentchat.messages import (
            ModelClientStreamingChunkEvent,
            TextMessage,
            ToolCallExecutionEvent,
            ToolCallRequestEvent,
        )
        from autogen_core import CancellationToken

        if isinstance(theirs, Team):
            await theirs.reset()
            said = [m for m in messages if m.content and m.role != "tool"]
            task = [TextMessage(content=m.content, source=m.role) for m in said]
        else:
            *earlier, asked = messages
            tools = names(earlier)
            await theirs.on_reset(CancellationToken())
            turns = [_turn(message, tools) for message in earlier]
            await theirs.model_context.load_state({"messages": turns})
            task = [TextMessage(content=asked.content or "", source="user")]
        async for event in theirs.run_stream(task=task, output_task_messages=False):
            count = getattr(event, "models_usage", None)
            if count is not None:
                yield used(count.prompt_tokens, count.completion_tokens, None, "")
            match event:
                case ModelClientStreamingChunkEvent(content=words):
                    yield Text(words)
                case ToolCallRequestEvent(content=calls):
                    for call in calls:
                        yield called(call.id, call.name, call.arguments)
                case ToolCallExecutionEvent(content=results):
                    for result in results:
                        yield returned(result.call_id, result.content, failed=bool(result.is_error))
                case TaskResult():
                    yield answered(event.messages[-1].to_text())


def _turn(message: Message, tools: Mapping[str, str]) -> dict[str, Any]:
    """A message of the conversation as AutoGen keeps it; `tools`: their names, by call."""
    words, call = message.content or "", message.tool_call_id or ""
    match message.role:
        case "user":
            return {"type": "UserMessage", "content": words, "source": "user"}
        case "assistant":
            calls = [
                {"id": c.id, "name": c.name, "arguments": c.arguments} for c in message.tool_calls
            ]
            return {"type": "AssistantMessage", "content": calls or words, "source": "assistant"}
        case "tool":
            result = {"content": words, "name": tools.get(call, ""), "call_id": call}
            return {"type": "FunctionExecutionResultMessage", "content": [result]}
    return {"type": "SystemMessage", "content": words}
