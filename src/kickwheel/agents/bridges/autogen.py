"""`kind: autogen`: agents, teams and tools of AutoGen's AgentChat.

An agent is given the whole conversation; a team, which has no place for it, what was said. Name a
function that makes them: they remember, so that one object does one run after the other.
"""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from kickwheel.agents.bridges.bridge import KEY, TheirAgent, TheirTools, needs, told
from kickwheel.agents.bridges.heard import Told, answered, called, returned, used
from kickwheel.agents.events import Text
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools import Tool
from kickwheel.records import Message

INSTALL = "autogen-agentchat 'autogen-ext[openai]'"


def tools(offered: Iterable[Offered]) -> list[Any]:
    """Our tools as AutoGen's."""
    with needs(INSTALL):
        from autogen_core.tools import BaseTool

    class Ours(BaseTool):
        def __init__(self, ours: Offered) -> None:
            super().__init__(BaseModel, str, ours.spec.name, ours.spec.description)
            self._ours = ours

        @property
        def schema(self) -> Any:
            spec = self._ours.spec
            parameters = dict(spec.parameters)
            return {"name": spec.name, "description": spec.description, "parameters": parameters}

        async def run_json(self, args: Any, cancellation_token: Any, call_id: Any = None) -> str:
            return await told(self._ours, args)

        async def run(self, args: Any, cancellation_token: Any) -> str:
            return await told(self._ours, args.model_dump())

    return [Ours(ours) for ours in offered]


def model(name: str, base_url: str, *, api_key: str = KEY) -> Any:
    """A model or agent that we serve, as AutoGen's client; its streams carry usage."""
    with needs(INSTALL):
        from autogen_ext.models.openai import OpenAIChatCompletionClient

    class Served(OpenAIChatCompletionClient):
        def create_stream(self, messages: Any, **options: Any) -> Any:
            return super().create_stream(messages, **{"include_usage": True, **options})

    can = dict.fromkeys(("vision", "function_calling", "json_output", "structured_output"), True)
    info = {**can, "vision": False, "family": "unknown"}
    return Served(model=name, base_url=base_url, api_key=api_key, model_info=info)


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
            await theirs.on_reset(CancellationToken())
            names = {call.id: call.name for m in messages for call in m.tool_calls}
            turns = [_turn(message, names) for message in messages[:-1]]
            await theirs.model_context.load_state({"messages": turns})
            task = [TextMessage(content=messages[-1].content or "", source="user")]
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


class AutogenTools(TheirTools):
    """Tools of AutoGen."""

    install = INSTALL

    def called(self, theirs: Any) -> Tool:
        """A tool of AutoGen's as ours."""
        from autogen_core import CancellationToken

        async def call(arguments: dict[str, Any]) -> str:
            result = await theirs.run_json(arguments, CancellationToken())
            return str(theirs.return_value_as_string(result))

        parameters = theirs.schema.get("parameters", {"type": "object"})
        return self.tool(theirs.name, theirs.description, parameters, call)


def _turn(message: Message, names: Mapping[str, str]) -> dict[str, Any]:
    """A message of the conversation as AutoGen keeps it; `names`: of the tools, by call."""
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
            result = {"content": words, "name": names.get(call, ""), "call_id": call}
            return {"type": "FunctionExecutionResultMessage", "content": [result]}
    return {"type": "SystemMessage", "content": words}
