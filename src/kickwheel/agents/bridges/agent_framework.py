"""`kind: agent_framework`: agents and tools of Microsoft's Agent Framework; a workflow by its
`as_agent()`."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any

from kickwheel.agents.bridges.bridge import KEY, TheirAgent, TheirTools, each, needs
from kickwheel.agents.bridges.heard import Told, answered, called, returned, used
from kickwheel.agents.events import Text
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools import Tool
from kickwheel.core.errors import ModelError
from kickwheel.records import Message

INSTALL = "agent-framework-core agent-framework-openai"
_WAITS = "the agent waits for a person, who cannot be asked here"


def tools(offered: Iterable[Offered]) -> list[Any]:
    """Our tools as the framework's."""
    with needs(INSTALL):
        from agent_framework import FunctionTool

    return [
        FunctionTool(name=o.name, description=o.about, input_model=o.schema, func=o.call)
        for o in each(offered)
    ]


def model(name: str, base_url: str, *, api_key: str = KEY) -> Any:
    """A model or agent that we serve, as a chat client of the framework."""
    with needs(INSTALL):
        from agent_framework.openai import OpenAIChatCompletionClient
    return OpenAIChatCompletionClient(name, base_url=base_url, api_key=api_key)


class AgentFrameworkAgent(TheirAgent):
    """An agent of Microsoft's Agent Framework."""

    install = INSTALL

    async def events(self, theirs: Any, messages: Sequence[Message]) -> AsyncGenerator[Told]:
        """What the agent does."""
        from agent_framework import AgentResponse

        updates: list[Any] = []
        calls: set[str] = set()
        before: Any = {}
        stream = theirs.run([_theirs(message) for message in messages], stream=True)
        async for update in stream:
            updates.append(update)
            for content in update.contents:
                if content.type == "function_approval_request":
                    raise ModelError(_WAITS, again=False)
                if content.type == "text" and content.merge_mode != "replace":
                    yield Text(content.text)
                if content.type == "usage":
                    # It counts all calls of models so far.
                    now = content.usage_details
                    count = {key: now[key] - before.get(key, 0) for key in now}
                    before = now
                    yield used(
                        count.get("input_token_count"),
                        count.get("output_token_count"),
                        count.get("cache_read_input_token_count"),
                        getattr(update.raw_representation, "model", None) or "",
                    )
                if content.type in ("usage", "function_result"):
                    for message in AgentResponse.from_updates(updates).messages:
                        for call in message.contents:
                            if call.type == "function_call" and call.call_id not in calls:
                                calls.add(call.call_id)
                                yield called(call.call_id, call.name, call.arguments or "{}")
                if content.type == "function_result":
                    failed = content.exception is not None
                    yield returned(content.call_id, content.result, failed=failed)
        answer = await stream.get_final_response()
        yield answered(answer.messages[-1].text if answer.messages else "")


class AgentFrameworkTools(TheirTools):
    """Function tools of Microsoft's Agent Framework."""

    install = INSTALL

    def called(self, theirs: Any) -> Tool:
        """A function tool as ours."""

        async def call(arguments: dict[str, Any]) -> Any:
            return await theirs.invoke(arguments=arguments, skip_parsing=True)

        return self.tool(theirs.name, theirs.description, theirs.parameters(), call)


def _theirs(message: Message) -> Any:
    from agent_framework import Content
    from agent_framework import Message as TheirMessage

    words = message.content or ""
    if message.role == "tool":
        contents = [Content.from_function_result(message.tool_call_id or "", result=words)]
        return TheirMessage("tool", contents)
    said = [Content.from_text(words)] if words else []
    calls = [
        Content.from_function_call(call.id, call.name, arguments=call.arguments)
        for call in message.tool_calls
    ]
    return TheirMessage(message.role, [*said, *calls])
