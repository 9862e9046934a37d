"""Tools of LlamaIndex, both ways, and our models as its own."""

from collections.abc import Iterable
from typing import Any

from kickwheel.agents.bridges.bridge import KEY, Ours, TheirTools, each, needs
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools import Tool
from kickwheel.core.errors import ToolError

INSTALL = "llama-index-core llama-index-llms-openai-like"


def tools(offered: Iterable[Offered]) -> list[Any]:
    """Our tools as LlamaIndex's."""
    with needs(INSTALL):
        from llama_index.core.tools import FunctionTool, ToolMetadata

    class Exact(ToolMetadata):
        """The schema as it is: LlamaIndex's own way leads through a pydantic model."""

        def __init__(self, ours: Ours) -> None:
            super().__init__(ours.about, ours.name, fn_schema=None)
            self._schema = ours.schema

        def get_parameters_dict(self) -> dict[str, Any]:
            return self._schema

    return [FunctionTool(async_fn=o.call, metadata=Exact(o)) for o in each(offered)]


def model(name: str, base_url: str, *, api_key: str = KEY) -> Any:
    """A model or agent that we serve, as LlamaIndex's; its streams carry usage."""
    with needs(INSTALL):
        from llama_index.llms.openai_like import OpenAILike
    return OpenAILike(
        model=name,
        api_base=base_url,
        api_key=api_key,
        is_chat_model=True,
        is_function_calling_model=True,
        additional_kwargs={"stream_options": {"include_usage": True}},
    )


class LlamaindexTools(TheirTools):
    """Tools of LlamaIndex."""

    install = INSTALL

    def called(self, theirs: Any) -> Tool:
        """A tool of LlamaIndex as ours."""

        async def call(arguments: dict[str, Any]) -> str:
            output = await theirs.acall(**arguments)
            if output.is_error:
                raise ToolError(output.content)
            return str(output.content)

        told = theirs.metadata
        return self.tool(told.get_name(), told.description, told.get_parameters_dict(), call)
