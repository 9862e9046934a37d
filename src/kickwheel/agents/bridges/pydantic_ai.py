"""`kind: pydantic_ai`: PydanticAI's agents and tools.

What a caller's system messages say comes to the agent as further instructions; its own stay.
"""

from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any

from kickwheel.agents.bridges.bridge import KEY, TheirAgent, TheirTools, needs, told
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

    def tool(ours: Offered) -> Any:
        async def call(**arguments: Any) -> str:
            return await told(ours, arguments)

        name, about, schema = ours.spec.name, ours.spec.description, dict(ours.spec.parameters)
        return Tool.from_schema(call, name, about, schema)

    return [tool(ours) for ours in offered]


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
        from pydantic_ai.messages import (
            FunctionToolCallEvent,
            FunctionToolResultEvent,
            PartDeltaEvent,
            PartStartEvent,
            TextPart,
            TextPartDelta,
        )

        asked, system = _conversation(messages)
        async with theirs.iter(
            message_history=asked, instructions=system, capabilities=[ReinjectSystemPrompt()]
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
                        match event:
                            case PartStartEvent(part=TextPart(content=words)):
                                yield Text(words)
                            case PartDeltaEvent(delta=TextPartDelta(content_delta=words)):
                                yield Text(words)
                            case FunctionToolCallEvent(part=part):
                                yield called(part.tool_call_id, part.tool_name, part.args or "{}")
                            case FunctionToolResultEvent(part=part):
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


def _conversation(messages: Sequence[Message]) -> tuple[list[Any], str | None]:
    """The conversation as PydanticAI has it, and what its system messages say."""
    from pydantic_ai.messages import (
        ModelRequest,
        ModelResponse,
        TextPart,
        ToolCallPart,
        ToolReturnPart,
        UserPromptPart,
    )

    history: list[Any] = []
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    system = [
        message.content or "" for message in messages if message.role in ("system", "developer")
    ]
    for message in messages:
        words = message.content or ""
        if message.role == "assistant":
            calls = [ToolCallPart(c.name, c.arguments, c.id) for c in message.tool_calls]
            said = [TextPart(words)] if words else []
            history.append(ModelResponse(parts=[*said, *calls]))
        elif message.role == "tool":
            name = names.get(message.tool_call_id or "", "")
            history.append(ModelRequest([ToolReturnPart(name, words, message.tool_call_id)]))
        elif message.role == "user":
            history.append(ModelRequest([UserPromptPart(words)]))
    return history, "\n\n".join(system) or None
