"""`kind: pydantic_ai`: PydanticAI's agents and tools.

What a caller's system messages say comes to the agent as further instructions; its own stay.
"""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any

from kickwheel.agents.bridges.bridge import KEY, TheirAgent, TheirTools, each, needs
from kickwheel.agents.bridges.heard import Told, answered, called, returned, used
from kickwheel.agents.events import Text
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools import InvalidArguments, Tool
from kickwheel.core.errors import ModelError
from kickwheel.records import Message

INSTALL = "'pydantic-ai-slim[openai]'"


def tools(offered: Iterable[Offered]) -> list[Any]:
    """Our tools as PydanticAI's."""
    with needs(INSTALL):
        from pydantic_ai import Tool

    return [Tool.from_schema(o.call, o.name, o.about, o.schema) for o in each(offered)]


def model(name: str, base_url: str, *, api_key: str = KEY) -> Any:
    """A model or agent that we serve, as PydanticAI's; tools reach it as they are."""
    with needs(INSTALL):
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.profiles.openai import OpenAIModelProfile
        from pydantic_ai.providers.openai import OpenAIProvider
    profile = OpenAIModelProfile(
        openai_supports_strict_tool_definition=False, json_schema_transformer=None
    )
    provider = OpenAIProvider(base_url=base_url, api_key=api_key)
    return OpenAIChatModel(name, provider=provider, profile=profile)


class PydanticAiAgent(TheirAgent):
    """An agent of PydanticAI."""

    install = INSTALL

    async def events(self, theirs: Any, messages: Sequence[Message]) -> AsyncGenerator[Told]:
        """What the agent does."""
        from pydantic_ai import DeferredToolRequests
        from pydantic_ai.capabilities import ReinjectSystemPrompt
        from pydantic_ai.messages import ModelMessagesTypeAdapter

        names = {call.id: call.name for message in messages for call in message.tool_calls}
        system = [m.content or "" for m in messages if m.role in ("system", "developer")]
        turns = [_turn(m, names) for m in messages if m.role not in ("system", "developer")]
        async with theirs.iter(
            message_history=ModelMessagesTypeAdapter.validate_python(turns),
            instructions="\n\n".join(system) or None,
            capabilities=[ReinjectSystemPrompt()],
        ) as run:
            async for node in run:
                if theirs.is_call_tools_node(node):
                    answer = node.model_response
                    count = answer.usage
                    yield used(
                        count.input_tokens,
                        count.output_tokens,
                        count.cache_read_tokens,
                        answer.model_name or "",
                    )
                elif not theirs.is_model_request_node(node):
                    continue
                async with node.stream(run.ctx) as events:
                    async for event in events:
                        part: Any = getattr(event, "part", getattr(event, "delta", None))
                        match event.event_kind:
                            case "part_start" if part.part_kind == "text":
                                yield Text(part.content)
                            case "part_delta" if part.part_delta_kind == "text":
                                yield Text(part.content_delta)
                            case "function_tool_call":
                                yield called(part.tool_call_id, part.tool_name, part.args or "{}")
                            case "function_tool_result":
                                failed = part.part_kind == "retry-prompt"
                                result = part.model_response() if failed else part.content
                                yield returned(part.tool_call_id, result, failed=failed)
        if isinstance(run.result.output, DeferredToolRequests):
            raise ModelError("the agent waits for somebody else's calls", again=False)
        yield answered(run.result.output)


class PydanticAiTools(TheirTools):
    """Tools of PydanticAI; what they ask of a run's dependencies is `None`."""

    install = INSTALL

    def called(self, theirs: Any) -> Tool:
        """A tool of PydanticAI's as ours."""
        from pydantic import ValidationError
        from pydantic_ai import ModelRetry, RunContext
        from pydantic_ai.models.test import TestModel
        from pydantic_ai.usage import RunUsage

        schema = theirs.function_schema

        async def call(arguments: dict[str, Any]) -> Any:
            context = RunContext(deps=None, model=TestModel(), usage=RunUsage())
            try:
                return await schema.call(schema.validator.validate_python(arguments), context)
            except (ModelRetry, ValidationError) as error:
                raise InvalidArguments(str(error)) from error

        told = theirs.tool_def
        return self.tool(told.name, told.description or "", told.parameters_json_schema, call)


def _turn(message: Message, names: Mapping[str, str]) -> dict[str, Any]:
    """A message of the conversation as PydanticAI has it; `names`: of the tools, by call."""
    words, call = message.content or "", message.tool_call_id
    if message.role == "assistant":
        said = [{"part_kind": "text", "content": words}] if words else []
        calls = [
            {
                "part_kind": "tool-call",
                "tool_name": c.name,
                "args": c.arguments,
                "tool_call_id": c.id,
            }
            for c in message.tool_calls
        ]
        return {"kind": "response", "parts": [*said, *calls]}
    part = {"part_kind": "user-prompt", "content": words}
    if call is not None:
        part |= {"part_kind": "tool-return", "tool_name": names.get(call, ""), "tool_call_id": call}
    return {"kind": "request", "parts": [part]}
