"""Tools of Strands, both ways, and our models as its own."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from kickwheel.agents.bridges.bridge import KEY, Ours, TheirTools, each, needs
from kickwheel.agents.bridges.heard import text
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools import Tool
from kickwheel.core.errors import ToolError
from kickwheel.core.identity import fresh

INSTALL = "strands-agents openai"


def tools(offered: Iterable[Offered]) -> list[Any]:
    """Our tools as those of Strands."""
    with needs(INSTALL):
        from strands.tools import PythonAgentTool

    async def call(ours: Ours, use: Any, /, **state: Any) -> Any:
        content = [{"text": await ours.call(**use["input"])}]
        return {"toolUseId": use["toolUseId"], "status": "success", "content": content}

    def tool(ours: Ours) -> Any:
        schema = {"json": ours.schema}
        spec = {"name": ours.name, "description": ours.about, "inputSchema": schema}
        return PythonAgentTool(ours.name, spec, partial(call, ours))

    return [tool(ours) for ours in each(offered)]


def model(name: str, base_url: str, *, api_key: str = KEY) -> Any:
    """A model or agent that we serve, as that of Strands."""
    with needs(INSTALL):
        from strands.models.openai import OpenAIModel
    return OpenAIModel(client_args={"base_url": base_url, "api_key": api_key}, model_id=name)


class StrandsTools(TheirTools):
    """Tools of Strands."""

    install = INSTALL

    def called(self, theirs: Any) -> Tool:
        """A tool of Strands as ours."""
        spec = theirs.tool_spec

        async def call(arguments: dict[str, Any]) -> str:
            use = {"toolUseId": fresh(8), "name": spec["name"], "input": arguments}
            async for event in theirs.stream(use, {}):
                result = event.get("tool_result")
            if result["status"] == "error":
                raise ToolError(said(result))
            return said(result)

        return self.tool(spec["name"], spec["description"], spec["inputSchema"]["json"], call)


def said(result: Any) -> str:
    """What the result of a tool says, as text."""
    blocks = result["content"]
    return "\n".join(block.get("text") or text(block.get("json", "")) for block in blocks)
