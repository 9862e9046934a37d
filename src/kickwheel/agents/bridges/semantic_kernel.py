"""Functions of Semantic Kernel, both ways, and our models as its services.

Its functions stand in plugins, so that a model sees them as `plugin-name`.
"""

from collections.abc import Iterable
from typing import Any

from kickwheel.agents.bridges.bridge import KEY, Ours, TheirTools, each, needs
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools import Tool

INSTALL = "semantic-kernel"
PLUGIN = "kickwheel"
"""The plugin that our tools stand in."""


def tools(offered: Iterable[Offered]) -> list[Any]:
    """Our tools as a plugin of Semantic Kernel: `plugins=tools(…)`."""
    with needs(INSTALL):
        from semantic_kernel.functions import (
            KernelFunctionFromMethod,
            KernelParameterMetadata,
            KernelPlugin,
            kernel_function,
        )

    class Function(KernelFunctionFromMethod):
        def gather_function_parameters(self, context: Any) -> dict[str, Any]:
            # Theirs gives `kernel`, `service` and `arguments` another meaning.
            given = context.arguments
            return {one.name: given[one.name] for one in self.parameters if one.name in given}

    def function(ours: Ours) -> Any:
        required = ours.schema.get("required", ())
        parameters = [
            KernelParameterMetadata(name=key, is_required=key in required, schema_data=dict(schema))
            for key, schema in ours.schema.get("properties", {}).items()
        ]
        method = kernel_function(ours.call, ours.name, ours.about)
        return Function(method, plugin_name=PLUGIN, parameters=parameters)

    return [KernelPlugin(name=PLUGIN, functions=[function(ours) for ours in each(offered)])]


def model(name: str, base_url: str, *, api_key: str = KEY) -> Any:
    """A model or agent that we serve, as a service of Semantic Kernel."""
    with needs(INSTALL):
        from openai import AsyncOpenAI
        from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
    client = AsyncOpenAI(base_url=base_url, api_key=api_key)
    return OpenAIChatCompletion(ai_model_id=name, async_client=client)


class SemanticKernelTools(TheirTools):
    """Functions of Semantic Kernel."""

    install = INSTALL

    def called(self, theirs: Any) -> Tool:
        """A function of a kernel, or one that is decorated as such, as ours."""
        from semantic_kernel import Kernel
        from semantic_kernel.connectors.ai.function_calling_utils import (
            kernel_function_metadata_to_function_call_format as shape,
        )
        from semantic_kernel.functions import KernelFunction, KernelFunctionFromMethod

        known = isinstance(theirs, KernelFunction)
        function = theirs if known else KernelFunctionFromMethod(theirs)
        told = shape(function.metadata)["function"]

        async def call(arguments: dict[str, Any]) -> Any:
            result = await function.invoke(Kernel(), **arguments)
            return None if result is None else result.value

        return self.tool(function.name, told["description"], told["parameters"], call)
