"""Tools of PydanticAI, both ways, and our models as its own."""

from collections.abc import Iterable
from typing import Any

from kickwheel.agents.bridges.bridge import KEY, TheirTools, each, needs
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools import InvalidArguments, Tool

INSTALL = "'pydantic-ai-slim[openai]'"


def tools(offered: Iterable[Offered]) -> list[Any]:
    """Our tools as PydanticAI's."""
    with needs(INSTALL):
        from pydantic_ai import Tool

    return [Tool.from_schema(o.call, o.name, o.about, o.schema) for o in each(offered)]


def model(name: str, base_url: str, *, api_key: str = KEY) -> Any:
    """A model or agent that we serve, as PydanticAI's; tools reach it as they are."""
    with needs(INSTALL):
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.profiles.openai import OpenAIModelProfile
        from pydantic_ai.providers.openai import OpenAIProvider
    profile = OpenAIModelProfile(
        openai_supports_strict_tool_definition=False, json_schema_transformer=None
    )
    provider = OpenAIProvider(base_url=base_url, api_key=api_key)
    return OpenAIChatModel(name, provider=provider, profile=profile)


class PydanticAiTools(TheirTools):
    """Tools of PydanticAI; what they ask of a run's dependencies is `None`."""

    install = INSTALL

    def called(self, theirs: Any) -> Tool:
        """A tool of PydanticAI's as ours."""
        from pydantic import ValidationError
        from pydantic_ai import ModelRetry, RunContext
        from pydantic_ai.models.test import TestModel
        from pydantic_ai.usage import RunUsage

        schema = theirs.function_schema

        async def call(arguments: dict[str, Any]) -> Any:
            context = RunContext(deps=None, model=TestModel(), usage=RunUsage())
            try:
                return await schema.call(schema.validator.validate_python(arguments), context)
            except (ModelRetry, ValidationError) as error:
                raise InvalidArguments(str(error)) from error

        told = theirs.tool_def
        return self.tool(told.name, told.description or "", told.parameters_json_schema, call)
