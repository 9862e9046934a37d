"""`kind: langgraph`: LangGraph's graphs, and LangChain's agents, which are such graphs.

A graph's state needs `messages`. Each run is a thread of its own, since it is given the whole
conversation. Calls of models that are tagged `nostream` are not told.
"""

from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

from kickwheel.agents.bridges.heard import Told, answered, called, returned, used
from kickwheel.agents.bridges.langchain import INSTALL
from kickwheel.agents.bridges.worker import TheirAgent, waits_for_a_person
from kickwheel.agents.events import Text
from kickwheel.core.errors import ModelError
from kickwheel.core.identity import fresh
from kickwheel.records import Message
from kickwheel.records.openai import message_to_openai


class LanggraphAgent(TheirAgent):
    """A compiled graph of LangGraph, as `create_agent` of LangChain makes one, too."""

    install = INSTALL

    async def events(self, theirs: Any, messages: Sequence[Message]) -> AsyncGenerator[Told]:
        """What the graph and those inside it do."""
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
                if one.type == "ai" and known not in seen:
                    seen.add(known)
                    for told in _whole(one):
                        yield told
        if "__interrupt__" in state:
            raise waits_for_a_person()
        if not state.get("messages"):
            raise ModelError("the graph's state has no messages, so no answer", again=False)
        yield answered(str(state["messages"][-1].text))


def _whole(message: Any) -> Iterator[Told]:
    """What a model's message tells once it is whole: what it took, and its calls."""
    if message.response_metadata:
        count = message.usage_metadata or {}
        cached = count.get("input_token_details", {}).get("cache_read")
        name = message.response_metadata.get("model_name", "")
        yield used(count.get("input_tokens"), count.get("output_tokens"), cached, name)
    for call in message.tool_calls:
        yield called(call["id"], call["name"], call["args"])
