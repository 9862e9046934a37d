"""Tools of DSPy, both ways, and our models as its own.

DSPy writes tools and answers into its prompts as text: no `tools` reach the model, unless its
adapter is told to (`use_native_function_calling`); then every argument without a default is
required. The recorder sees such calls as text, and so does this bridge's model.
"""

import os
from collections.abc import Iterable
from typing import Any

from kickwheel.agents.bridges.bridge import KEY, Ours, TheirTools, each, needs
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools import Tool

INSTALL = "dspy"

# DSPy fetches a list of models, and their prices, unless it is told not to.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")


def tools(offered: Iterable[Offered]) -> list[Any]:
    """Our tools as DSPy's; they are awaited, so the program must be: `await program.acall(…)`."""
    with needs(INSTALL):
        from dspy import Tool

    def tool(ours: Ours) -> Any:
        arguments = dict(ours.schema.get("properties", {}))
        kinds = dict.fromkeys(arguments, Any)
        return Tool(ours.call, name=ours.name, desc=ours.about, args=arguments, arg_types=kinds)

    return [tool(ours) for ours in each(offered)]


def model(name: str, base_url: str, *, api_key: str = KEY) -> Any:
    """A model or agent that we serve, as DSPy's; it keeps no cache, of which we would not know."""
    with needs(INSTALL):
        from dspy import LM
    return LM(f"openai/{name}", api_base=base_url, api_key=api_key, cache=False)


class DspyTools(TheirTools):
    """Tools of DSPy, or functions as it takes them."""

    install = INSTALL

    def called(self, theirs: Any) -> Tool:
        """A tool of DSPy as ours."""
        import dspy

        tool = theirs if isinstance(theirs, dspy.Tool) else dspy.Tool(theirs)
        schema = tool.format_as_litellm_function_call()["function"]["parameters"]

        async def call(arguments: dict[str, Any]) -> Any:
            return await tool.acall(**arguments)

        return self.tool(tool.name, tool.desc or "", schema, call)
