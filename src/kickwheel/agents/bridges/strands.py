"""`kind: strands`: agents and tools of Strands.

An agent of Strands holds one conversation, and begins each run with an empty one here; what it
remembers otherwise (`state`, a session) stays as it is.
"""

import json
from collections.abc import AsyncGenerator, Iterable, Sequence
from functools import partial
from typing import Any

from kickwheel.agents.bridges.bridge import KEY, Ours, TheirAgent, TheirTools, each, needs
from kickwheel.agents.bridges.heard import Told, called, returned, text, used
from kickwheel.agents.events import Text
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools import Tool
from kickwheel.core.errors import ToolError
from kickwheel.core.identity import fresh
from kickwheel.records import Message

INSTALL = "strands-agents openai"


def tools(offered: Iterable[Offered]) -> list[Any]:
    """Our tools as those of Strands."""
    with needs(INSTALL):
        from strands.tools import PythonAgentTool

    async def call(ours: Ours, use: Any, /, **state: Any) -> Any:
        said = await ours.call(**use["input"])
        return {"toolUseId": use["toolUseId"], "status": "success", "content": [{"text": said}]}

    def tool(ours: Ours) -> Any:
        schema = {"json": ours.schema}
        spec = {"name": ours.name, "description": ours.about, "inputSchema": schema}
        return PythonAgentTool(ours.name, spec, partial(call, ours))

    return [tool(ours) for ours in each(offered)]


def model(name: str, base_url: str, *, api_key: str = KEY) -> Any:
    """A model or agent that we serve, as that of Strands."""
    with needs(INSTALL):
        from strands.models.openai import OpenAIModel
    return OpenAIModel(client_args={"base_url": base_url, "api_key": api_key}, model_id=name)


class StrandsAgent(TheirAgent):
    """An agent of Strands."""

    install = INSTALL
    remembers = True

    async def events(self, theirs: Any, messages: Sequence[Message]) -> AsyncGenerator[Told]:
        """What the agent does."""
        theirs.messages = []
        async for event in theirs.stream_async([_message(message) for message in messages]):
            if "data" in event:
                yield Text(event["data"])
            elif "metadata" in event.get("event", ()):
                count = event["event"]["metadata"]["usage"]
                cached = count.get("cacheReadInputTokens")
                name = str(theirs.model.get_config().get("model_id", ""))
                yield used(count["inputTokens"], count["outputTokens"], cached, name)
            for block in event.get("message", {}).get("content", ()):
                if use := block.get("toolUse"):
                    yield called(use["toolUseId"], use["name"], use["input"])
                elif result := block.get("toolResult"):
                    failed = result["status"] == "error"
                    yield returned(result["toolUseId"], _said(result), failed=failed)


class StrandsTools(TheirTools):
    """Tools of Strands."""

    install = INSTALL

    def called(self, theirs: Any) -> Tool:
        """A tool of Strands as ours."""
        spec = theirs.tool_spec

        async def call(arguments: dict[str, Any]) -> str:
            use = {"toolUseId": fresh(8), "name": spec["name"], "input": arguments}
            async for event in theirs.stream(use, {}):
                result = event.get("tool_result")
            if result["status"] == "error":
                raise ToolError(_said(result))
            return _said(result)

        return self.tool(spec["name"], spec["description"], spec["inputSchema"]["json"], call)


def _message(message: Message) -> dict[str, Any]:
    """A message as Strands has it; roles beside these two it does not know."""
    if message.role == "tool":
        content = [{"text": message.content or ""}]
        result = {"toolUseId": message.tool_call_id, "status": "success", "content": content}
        return {"role": "user", "content": [{"toolResult": result}]}
    blocks: list[Any] = [{"text": message.content}] if message.content else []
    for call in message.tool_calls:
        use = {"toolUseId": call.id, "name": call.name, "input": json.loads(call.arguments)}
        blocks.append({"toolUse": use})
    return {"role": "assistant" if message.role == "assistant" else "user", "content": blocks}


def _said(result: Any) -> str:
    return "\n".join(
        block.get("text") or text(block.get("json", "")) for block in result["content"]
    )
