"""`kind: strands`: agents of Strands.

An agent of Strands holds one conversation, and begins each run with an empty one here; what it
remembers otherwise (`state`, a session) stays as it is.
"""

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from kickwheel.agents.bridges.heard import Told, called, returned, used
from kickwheel.agents.bridges.strands import INSTALL, said
from kickwheel.agents.bridges.worker import TheirAgent
from kickwheel.agents.events import Text
from kickwheel.records import Message


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
                    yield returned(result["toolUseId"], said(result), failed=failed)


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
