"""Tools of the OpenAI Agents SDK, both ways, and our models as its own."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from kickwheel.agents.bridges.bridge import KEY, TheirTools, needs, told
from kickwheel.agents.bridges.heard import text
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools import Tool
from kickwheel.core.identity import fresh

INSTALL = "openai-agents"


def tools(offered: Iterable[Offered]) -> list[Any]:
    """Our tools as those of the SDK; optional arguments stay optional."""
    with needs(INSTALL):
        from agents import FunctionTool

    def tool(ours: Offered) -> Any:
        async def call(context: Any, arguments: str) -> str:
            return await told(ours, arguments)

        name, about, schema = ours.spec.name, ours.spec.description, dict(ours.spec.parameters)
        return FunctionTool(name, about, schema, call, strict_json_schema=False)

    return [tool(ours) for ours in offered]


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
