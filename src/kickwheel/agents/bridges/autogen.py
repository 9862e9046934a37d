"""Tools of AutoGen, both ways, and our models as its clients."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from kickwheel.agents.bridges.bridge import KEY, TheirTools, needs, told
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools import Tool

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

    can = dict.fromkeys(("function_calling", "json_output", "structured_output"), True)
    info = {**can, "vision": False, "family": "unknown"}
    return Served(model=name, base_url=base_url, api_key=api_key, model_info=info)


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
