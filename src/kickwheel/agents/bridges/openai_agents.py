"""`kind: openai_agents`: agents and tools of the OpenAI Agents SDK.

Runs of ours send no traces to OpenAI, whatever the environment says.
"""

from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import replace
from typing import Any

from kickwheel.agents.bridges.bridge import KEY, TheirAgent, TheirTools, needs, told
from kickwheel.agents.bridges.heard import Told, answered, called, returned, text, used
from kickwheel.agents.events import Text
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools import Tool
from kickwheel.core.errors import ModelError
from kickwheel.core.identity import fresh
from kickwheel.records import Message

INSTALL = "openai-agents"


def tools(offered: Iterable[Offered]) -> list[Any]:
    """Our tools as those of the SDK; optional arguments stay optional."""
    with needs(INSTALL):
        from agents import FunctionTool

    def calling(ours: Offered) -> Any:
        return lambda _, arguments: told(ours, arguments)

    return [
        FunctionTool(
            o.spec.name,
            o.spec.description,
            dict(o.spec.parameters),
            calling(o),
            strict_json_schema=False,
        )
        for o in offered
    ]


def model(name: str, base_url: str, *, api_key: str = KEY) -> Any:
    """A model or agent that we serve, as one of the SDK's; its streams carry usage."""
    with needs(INSTALL):
        from openai import AsyncOpenAI

        from agents import OpenAIChatCompletionsModel

    class Served(OpenAIChatCompletionsModel):
        def stream_response(
            self, system: Any, asked: Any, settings: Any, *rest: Any, **more: Any
        ) -> Any:
            counted = replace(settings, include_usage=True)
            return super().stream_response(system, asked, counted, *rest, **more)

    return Served(name, AsyncOpenAI(base_url=base_url, api_key=api_key))


class OpenAiAgentsAgent(TheirAgent):
    """An agent of the OpenAI Agents SDK; those that it hands over to are told, too."""

    install = INSTALL

    async def events(self, theirs: Any, messages: Sequence[Message]) -> AsyncGenerator[Told]:
        """What the agent does."""
        from openai.types.responses import ResponseFunctionToolCall

        from agents import RunConfig, Runner

        config = RunConfig(tracing_disabled=True)
        run = Runner.run_streamed(theirs, items(messages), run_config=config, max_turns=None)
        async for event in run.stream_events():
            if event.type == "raw_response_event":
                if event.data.type == "response.output_text.delta":
                    yield Text(event.data.delta)
                elif event.data.type == "response.completed":
                    answer = event.data.response
                    count = answer.usage
                    if count:
                        cached = count.input_tokens_details.cached_tokens
                        yield used(count.input_tokens, count.output_tokens, cached, answer.model)
            elif event.type == "run_item_stream_event":
                # What OpenAI's own tools do on its side is no call that anybody here could see.
                match event.item.raw_item:
                    case ResponseFunctionToolCall() as call if event.name == "tool_called":
                        yield called(call.call_id, call.name, call.arguments)
                    case {"call_id": identity} if event.name == "tool_output":
                        yield returned(identity, event.item.output)
        if run.interruptions:
            raise ModelError("the agent waits for a person, who cannot be asked here", again=False)
        yield answered(run.final_output)


class OpenAiAgentsTools(TheirTools):
    """Function tools of the OpenAI Agents SDK."""

    install = INSTALL

    def called(self, theirs: Any) -> Tool:
        """A function tool as ours."""
        from agents.tool_context import ToolContext

        async def call(arguments: dict[str, Any]) -> Any:
            written = text(arguments)
            context = ToolContext(
                None, tool_name=theirs.name, tool_call_id=fresh(8), tool_arguments=written
            )
            return await theirs.on_invoke_tool(context, written)

        return self.tool(theirs.name, theirs.description, theirs.params_json_schema, call)


def items(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The conversation as items of the Responses protocol."""
    listed: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "tool":
            listed.append(
                {
                    "type": "function_call_output",
                    "call_id": message.tool_call_id,
                    "output": message.content or "",
                }
            )
            continue
        if message.content:
            listed.append({"role": message.role, "content": message.content})
        listed += [
            {
                "type": "function_call",
                "call_id": call.id,
                "name": call.name,
                "arguments": call.arguments,
            }
            for call in message.tool_calls
        ]
    return listed
