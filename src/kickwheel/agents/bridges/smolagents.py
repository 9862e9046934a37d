"""Tools of smolagents, both ways, and our models as its own.

It keeps the schemas of arguments, but what may be left out becomes `nullable`, and of `anyOf` only
the types stay.
"""

from collections.abc import Iterable
from typing import Any

from kickwheel.agents.bridges.bridge import KEY, TheirTools, needs
from kickwheel.agents.bridges.threads import waiting
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools import Tool
from kickwheel.agents.tools.threads import in_thread

INSTALL = "'smolagents[openai]'"


def tools(offered: Iterable[Offered]) -> list[Any]:
    """Our tools as those of smolagents; called from its threads, they work where they were made."""
    with needs(INSTALL):
        from smolagents import Tool

    class Ours(Tool):
        output_type = "string"
        skip_forward_signature_validation = True

        def __init__(self, ours: Offered) -> None:
            self.name, self.description = ours.spec.name, ours.spec.description
            required = ours.spec.parameters.get("required", ())
            properties = ours.spec.parameters.get("properties", {})
            self.inputs = {key: _input(it, key in required) for key, it in properties.items()}
            self.forward = waiting(ours)
            super().__init__()

    return [Ours(ours) for ours in offered]


def _input(schema: Any, required: bool) -> dict[str, Any]:
    """The schema of an argument as smolagents wants it; of `anyOf` it keeps no more than types."""
    others = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    if len(others) == 1:
        schema = {**others[0], **{key: it for key, it in schema.items() if key != "anyOf"}}
    kind = schema.get("type") or [one.get("type", "any") for one in others] or "any"
    return {"description": "", **schema, "type": kind, **({} if required else {"nullable": True})}


def model(name: str, base_url: str, *, api_key: str = KEY) -> Any:
    """A model or agent that we serve, as that of smolagents."""
    with needs(INSTALL):
        from smolagents import OpenAIModel
    return OpenAIModel(name, api_base=base_url, api_key=api_key)


class SmolagentsTools(TheirTools):
    """Tools of smolagents; they are called in a thread."""

    install = INSTALL

    def called(self, theirs: Any) -> Tool:
        """A tool of smolagents as ours."""
        from smolagents.models import get_tool_json_schema

        told = get_tool_json_schema(theirs)["function"]

        async def call(arguments: dict[str, Any]) -> Any:
            return await in_thread(lambda: theirs(**arguments), stop=True)

        return self.tool(told["name"], told["description"], told["parameters"], call)
