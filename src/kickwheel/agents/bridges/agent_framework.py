"""Tools of Microsoft's Agent Framework, both ways, and our models as its chat clients."""

from collections.abc import Iterable
from typing import Any

from kickwheel.agents.bridges.bridge import KEY, TheirTools, each, needs
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools import Tool

INSTALL = "agent-framework-core agent-framework-openai"


def tools(offered: Iterable[Offered]) -> list[Any]:
    """Our tools as the framework's."""
    with needs(INSTALL):
        from agent_framework import FunctionTool

    return [
        FunctionTool(name=o.name, description=o.about, input_model=o.schema, func=o.call)
        for o in each(offered)
    ]


def model(name: str, base_url: str, *, api_key: str = KEY) -> Any:
    """A model or agent that we serve, as a chat client of the framework."""
    with needs(INSTALL):
        from agent_framework.openai import OpenAIChatCompletionClient
    return OpenAIChatCompletionClient(name, base_url=base_url, api_key=api_key)


class AgentFrameworkTools(TheirTools):
    """Function tools of Microsoft's Agent Framework."""

    install = INSTALL

    def called(self, theirs: Any) -> Tool:
        """A function tool as ours."""

        async def call(arguments: dict[str, Any]) -> Any:
            return await theirs.invoke(arguments=arguments, skip_parsing=True)

        return self.tool(theirs.name, theirs.description, theirs.parameters(), call)
