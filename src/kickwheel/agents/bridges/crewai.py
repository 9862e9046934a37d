"""Tools of CrewAI, both ways, and our models as its own.

CrewAI sends every tool in OpenAI's strict form: all arguments are required, those that may be left
out may be null, and defaults are lost.
"""

import inspect
import os
from collections.abc import Iterable
from typing import Any

from kickwheel.agents.bridges.bridge import KEY, TheirTools, needs, told
from kickwheel.agents.bridges.threads import waiting
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools import Tool
from kickwheel.agents.tools.threads import in_thread

INSTALL = "crewai"

# What an app does is nobody else's affair: CrewAI tells its makers unless it is told not to.
os.environ.setdefault("CREWAI_DISABLE_TELEMETRY", "true")
os.environ.setdefault("CREWAI_TRACING_ENABLED", "false")


def tools(offered: Iterable[Offered]) -> list[Any]:
    """Our tools as CrewAI's."""
    with needs(INSTALL):
        from crewai.tools import BaseTool
        from crewai.utilities.pydantic_schema_utils import create_model_from_schema

    class Ours(BaseTool):
        def __init__(self, ours: Offered) -> None:
            super().__init__(
                name=ours.spec.name,
                description=ours.spec.description,
                args_schema=create_model_from_schema(dict(ours.spec.parameters)),
            )
            self._ours, self._waiting = ours, waiting(ours)

        def _run(self, **arguments: Any) -> str:
            return str(self._waiting(**arguments))

        async def _arun(self, **arguments: Any) -> str:
            return await told(self._ours, arguments)

    return [Ours(ours) for ours in offered]


def model(name: str, base_url: str, *, api_key: str = KEY) -> Any:
    """A model or agent that we serve, as CrewAI's; it streams."""
    with needs(INSTALL):
        from crewai import LLM
    return LLM(model=f"openai/{name}", base_url=base_url, api_key=api_key, stream=True)


class CrewaiTools(TheirTools):
    """Tools of CrewAI; those that do not await are called in a thread."""

    install = INSTALL

    def called(self, theirs: Any) -> Tool:
        """A tool of CrewAI as ours."""
        from crewai.tools.base_tool import BaseTool, Tool

        # Asked whether it awaits, `arun` of a plain function finds out by calling it.
        own = type(theirs)._arun not in (BaseTool._arun, Tool._arun)
        awaits = own or inspect.iscoroutinefunction(getattr(theirs, "func", None))

        async def call(arguments: dict[str, Any]) -> Any:
            if awaits:
                return await theirs.arun(**arguments)
            return await in_thread(lambda: theirs.run(**arguments), stop=True)

        schema = theirs.args_schema.model_json_schema()
        return self.tool(theirs.name, theirs.description, schema, call)
