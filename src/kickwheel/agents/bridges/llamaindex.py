"""`kind: llamaindex`: agents and tools of LlamaIndex."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any

from kickwheel.agents.bridges.bridge import KEY, Ours, TheirAgent, TheirTools, each, needs
from kickwheel.agents.bridges.heard import Told, answered, called, returned, used
from kickwheel.agents.events import Text
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools import Tool
from kickwheel.core.errors import ToolError
from kickwheel.records import Message
from kickwheel.records.openai import message_to_openai

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


class LlamaindexAgent(TheirAgent):
    """An agent of LlamaIndex, or a workflow of several."""

    install = INSTALL

    async def events(self, theirs: Any, messages: Sequence[Message]) -> AsyncGenerator[Told]:
        """What the agent does."""
        from llama_index.core.agent.workflow import (
            AgentOutput,
            AgentStream,
            ToolCall,
            ToolCallResult,
        )
        from llama_index.llms.openai.utils import from_openai_message_dict

        *earlier, asked = [from_openai_message_dict(message_to_openai(one)) for one in messages]
        run = theirs.run(user_msg=asked, chat_history=earlier)
        try:
            async for event in run.stream_events():
                match event:
                    case AgentStream() if event.delta:
                        yield Text(event.delta)
                    case AgentOutput(raw=dict(raw)):
                        count = raw.get("usage") or {}
                        cached = (count.get("prompt_tokens_details") or {}).get("cached_tokens")
                        tokens = count.get("prompt_tokens"), count.get("completion_tokens")
                        yield used(*tokens, cached, raw.get("model", ""))
                    case ToolCallResult():
                        failed = event.tool_output.is_error
                        yield returned(event.tool_id, event.tool_output.content, failed=failed)
                    case ToolCall():
                        yield called(event.tool_id, event.tool_name, event.tool_kwargs)
            yield answered(str(await run))
        finally:
            if not run.is_done():
                await run.cancel_run()


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
