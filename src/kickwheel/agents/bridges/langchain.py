"""LangChain's tools, both ways, and our models as its own."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from kickwheel.agents.bridges.bridge import KEY, TheirTools, each, needs
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools import Tool
from kickwheel.core.errors import ToolError
from kickwheel.core.identity import fresh

INSTALL = "langchain langchain-openai langgraph"


def tools(offered: Iterable[Offered]) -> list[Any]:
    """Our tools as LangChain's."""
    with needs(INSTALL):
        from langchain_core.tools import BaseTool

    # A `StructuredTool` takes arguments called `config` and `run_manager` for itself.
    class Ours(BaseTool):
        call: Callable[..., Awaitable[str]]

        async def _arun(self, **arguments: Any) -> str:
            return await self.call(**arguments)

        def _run(self, **arguments: Any) -> str:
            raise NotImplementedError("tools of kickwheel are called async, as by ainvoke")

    return [
        Ours(name=o.name, description=o.about, args_schema=o.schema, call=o.call)
        for o in each(offered)
    ]


def model(name: str, base_url: str, *, api_key: str = KEY) -> Any:
    """A model or agent that we serve, as LangChain's; its streams carry usage."""
    with needs(INSTALL):
        from langchain_openai import ChatOpenAI
    return ChatOpenAI(model=name, base_url=base_url, api_key=api_key, stream_usage=True)


class LangchainTools(TheirTools):
    """Tools of LangChain."""

    install = INSTALL

    def called(self, theirs: Any) -> Tool:
        """A tool of LangChain's as ours."""
        from langchain_core.utils.function_calling import convert_to_openai_function

        async def call(arguments: dict[str, Any]) -> str:
            asked = {"type": "tool_call", "id": fresh(8), "name": theirs.name, "args": arguments}
            message = await theirs.ainvoke(asked)
            if message.status == "error":
                raise ToolError(str(message.text))
            return str(message.text)

        spec = convert_to_openai_function(theirs)
        return self.tool(spec["name"], spec["description"], spec["parameters"], call)
