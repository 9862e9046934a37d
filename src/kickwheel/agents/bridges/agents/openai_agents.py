"""`kind: openai_agents`: agents of the OpenAI Agents SDK.

Runs of ours send no traces to OpenAI, whatever the environment says.
"""

from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

from kickwheel.agents.bridges.heard import Told, answered, called, returned, used
from kickwheel.agents.bridges.openai_agents import INSTALL
from kickwheel.agents.bridges.worker import TheirAgent, waits_for_a_person
from kickwheel.agents.events import Text
from kickwheel.records import Message


class OpenAiAgentsAgent(TheirAgent):
    """An agent of the OpenAI Agents SDK; those that it hands over to are told, too."""

    install = INSTALL

    async def events(self, theirs: Any, messages: Sequence[Message]) -> AsyncGenerator[Told]:
        """What the agent does."""
        from openai.types.responses import ResponseFunctionToolCall

        from agents import RunConfig, Runner

        items = [item for message in messages for item in _items(message)]
        config = RunConfig(tracing_disabled=True)
        run = Runner.run_streamed(theirs, items, run_config=config, max_turns=None)
        async for event in run.stream_events():
            if event.type == "raw_response_event":
                if event.data.type == "response.output_text.delta":
                    yield Text(event.data.delta)
                elif event.data.type == "response.completed" and event.data.response.usage:
                    answer = event.data.response
                    count, cached = answer.usage, answer.usage.input_tokens_details.cached_tokens
                    yield used(count.input_tokens, count.output_tokens, cached, answer.model)
            elif event.type == "run_item_stream_event":
                # What OpenAI's own tools do on its side is no call that anybody here could see.
                match event.item.raw_item:
                    case ResponseFunctionToolCall() as call if event.name == "tool_called":
                        yield called(call.call_id, call.name, call.arguments)
                    case {"call_id": identity} if event.name == "tool_output":
                        yield returned(identity, event.item.output)
        if run.interruptions:
            raise waits_for_a_person()
        yield answered(run.final_output)


def _items(message: Message) -> Iterator[dict[str, Any]]:
    """A message as items of the Responses protocol."""
    words, call = message.content or "", message.tool_call_id
    if message.role == "tool":
        yield {"type": "function_call_output", "call_id": call, "output": words}
    elif words:
        yield {"role": message.role, "content": words}
    for one in message.tool_calls:
        item = {"call_id": one.id, "name": one.name, "arguments": one.arguments}
        yield {"type": "function_call", **item}
