"""`kind: langgraph`: LangGraph's graphs, LangChain's agents (which are such graphs), and its tools.

A graph's state needs `messages`. Each run is a thread of its own, since it is given the whole
conversation. Calls of models that are tagged `nostream` are not told.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from typing import Any

from kickwheel.agents.bridges.bridge import KEY, TheirAgent, TheirTools, each, needs
from kickwheel.agents.bridges.heard import Told, answered, called, returned, used
from kickwheel.agents.events import Text
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools import Tool
from kickwheel.core.errors import ModelError, ToolError
from kickwheel.core.identity import fresh
from kickwheel.records import Message
from kickwheel.records.openai import message_to_openai

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


class LanggraphAgent(TheirAgent):
    """A compiled graph of LangGraph, as `create_agent` of LangChain makes one, too."""

    install = INSTALL

    async def events(self, theirs: Any, messages: Sequence[Message]) -> AsyncGenerator[Told]:
        """What the graph and those inside it do."""
        with needs(INSTALL):
            from langchain_core.messages import convert_to_messages

        given = convert_to_messages(
            {**message_to_openai(message), "content": message.content or "", "id": f"given_{n}"}
            for n, message in enumerate(messages)
        )
        seen = {one.id for one in given}
        state: dict[str, Any] = {}
        asked, thread = {"messages": given}, {"configurable": {"thread_id": fresh(8)}}
        modes = ["messages", "values"]
        stream = theirs.astream(asked, thread, stream_mode=modes, subgraphs=True)
        async for where, mode, data in stream:
            if mode == "messages":
                one = data[0]
                if one.type == "tool":
                    yield returned(one.tool_call_id, str(one.text), failed=one.status == "error")
                elif one.type in ("ai", "AIMessageChunk"):
                    yield Text(str(one.text))
                continue
            state = state if where else data
            for one in data.get("messages", ()):
                known = one.id or id(one)
                if one.type != "ai" or known in seen:
                    continue
                seen.add(known)
                if one.response_metadata:
                    count = one.usage_metadata or {}
                    cached = count.get("input_token_details", {}).get("cache_read")
                    named = one.response_metadata.get("model_name", "")
                    yield used(count.get("input_tokens"), count.get("output_tokens"), cached, named)
                for call in one.tool_calls:
                    yield called(call["id"], call["name"], call["args"])
        if "__interrupt__" in state:
            raise ModelError("the graph waits for a person, who cannot be asked here", again=False)
        if not state.get("messages"):
            raise ModelError("the graph's state has no messages, so no answer", again=False)
        yield answered(str(state["messages"][-1].text))


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
