"""Tools of Google's Agent Development Kit, both ways, and our models as its own."""

import os
from collections.abc import Iterable
from typing import Any

from kickwheel.agents.bridges.bridge import KEY, Ours, TheirTools, each, needs
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools import Tool

INSTALL = "google-adk litellm"

# LiteLLM, by which ADK speaks OpenAI's protocol, fetches a list of prices when it is imported.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")


def tools(offered: Iterable[Offered]) -> list[Any]:
    """Our tools as ADK's."""
    with needs(INSTALL):
        from google.adk.tools import BaseTool
        from google.genai.types import FunctionDeclaration

    class Theirs(BaseTool):
        def __init__(self, ours: Ours) -> None:
            super().__init__(name=ours.name, description=ours.about)
            self._ours = ours

        def _get_declaration(self) -> Any:
            return FunctionDeclaration(
                name=self.name,
                description=self.description,
                parameters_json_schema=self._ours.schema,
            )

        async def run_async(self, *, args: dict[str, Any], tool_context: Any) -> str:
            return await self._ours.call(**args)

    return [Theirs(ours) for ours in each(offered)]


def model(name: str, base_url: str, *, api_key: str = KEY) -> Any:
    """A model or agent that we serve, as ADK's, by LiteLLM."""
    with needs(INSTALL):
        from google.adk.models.lite_llm import LiteLlm
    return LiteLlm(model=f"openai/{name}", api_base=base_url, api_key=api_key)


class AdkTools(TheirTools):
    """Tools of ADK."""

    install = INSTALL

    def called(self, theirs: Any) -> Tool:
        """A tool of ADK, or a function as ADK takes it, as ours."""
        from google.adk.tools import BaseTool, FunctionTool

        tool = theirs if isinstance(theirs, BaseTool) else FunctionTool(theirs)
        told = tool._get_declaration()
        schema = told.parameters_json_schema or {"type": "object", "properties": {}}

        async def call(arguments: dict[str, Any]) -> Any:
            return await tool.run_async(args=arguments, tool_context=None)

        return self.tool(tool.name, tool.description, schema, call)
