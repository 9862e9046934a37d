"""`kind: agent_framework`: agents of Microsoft's Agent Framework; a workflow by its
`as_agent()`."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from kickwheel.agents.bridges.agent_framework import INSTALL
from kickwheel.agents.bridges.heard import Told, answered, called, returned, used
from kickwheel.agents.bridges.worker import TheirAgent, waits_for_a_person
from kickwheel.agents.events import Text
from kickwheel.records import Message


class AgentFrameworkAgent(TheirAgent):
    """An agent of Microsoft's Agent Framework."""

    install = INSTALL

    async def events(self, theirs: Any, messages: Sequence[Message]) -> AsyncGenerator[Told]:
        """What the agent does."""
        updates: list[Any] = []
        begun: set[str] = set()
        before: Any = {}
        stream = theirs.run([_message(message) for message in messages], stream=True)
        async for update in stream:
            updates.append(update)
            for content in update.contents:
                if content.type == "function_approval_request":
                    raise waits_for_a_person()
                if content.type == "text" and content.merge_mode != "replace":
                    yield Text(content.text)
                if content.type == "usage":
                    # It counts all calls of models so far.
                    now = content.usage_details
                    count = {key: now[key] - before.get(key, 0) for key in now}
                    before = now
                    tokens = count.get("input_token_count"), count.get("output_token_count")
                    name = getattr(update.raw_representation, "model", None) or ""
                    yield used(*tokens, count.get("cache_read_input_token_count"), name)
                if content.type in ("usage", "function_result"):
                    for call in _calls(updates):
                        if call.call_id not in begun:
                            begun.add(call.call_id)
                            yield called(call.call_id, call.name, call.arguments or "{}")
                if content.type == "function_result":
                    failed = content.exception is not None
                    yield returned(content.call_id, content.result, failed=failed)
        answer = await stream.get_final_response()
        yield answered(answer.messages[-1].text if answer.messages else "")


def _calls(updates: Sequence[Any]) -> list[Any]:
    """The calls of tools in what came so far; a single update has only a piece of one."""
    from agent_framework import AgentResponse

    messages = AgentResponse.from_updates(updates).messages
    return [one for message in messages for one in message.contents if one.type == "function_call"]


def _message(message: Message) -> Any:
    """A message as the framework has it."""
    from agent_framework import Content
    from agent_framework import Message as Theirs

    words = message.content or ""
    if message.role == "tool":
        return Theirs("tool", [Content.from_function_result(message.tool_call_id, result=words)])
    said = [Content.from_text(words)] if words else []
    calls = [
        Content.from_function_call(call.id, call.name, arguments=call.arguments)
        for call in message.tool_calls
    ]
    return Theirs(message.role, [*said, *calls])
