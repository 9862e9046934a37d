"""`kind: adk`: agents of Google's Agent Development Kit."""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial
from typing import Any

from kickwheel.agents.bridges.adk import INSTALL
from kickwheel.agents.bridges.heard import Told, called, returned, used
from kickwheel.agents.bridges.worker import TheirAgent, names
from kickwheel.agents.events import Text
from kickwheel.core.errors import ModelError
from kickwheel.core.identity import fresh
from kickwheel.records import Message


class AdkAgent(TheirAgent):
    """An agent of ADK; each run is a session of its own, in memory."""

    install = INSTALL

    async def events(self, theirs: Any, messages: Sequence[Message]) -> AsyncGenerator[Told]:
        """What the agent and those under it do."""
        from google.adk.agents.run_config import RunConfig, StreamingMode
        from google.adk.events import Event
        from google.adk.runners import InMemoryRunner

        runner = InMemoryRunner(theirs, app_name="kickwheel")
        whose = {"user_id": "kickwheel", "session_id": fresh(8)}
        session = await runner.session_service.create_session(app_name="kickwheel", **whose)
        *earlier, asked = map(partial(_content, names(messages)), messages)
        for content in earlier:
            author = theirs.name if content.role == "model" else "user"
            event = Event(author=author, content=content)
            await runner.session_service.append_event(session, event)
        config = RunConfig(streaming_mode=StreamingMode.SSE)
        said = False
        async for event in runner.run_async(**whose, new_message=asked, run_config=config):
            if event.error_code:
                raise ModelError(event.error_message or event.error_code, again=False)
            if (count := event.usage_metadata) and not event.partial:
                tokens = count.prompt_token_count, count.candidates_token_count
                yield used(*tokens, count.cached_content_token_count, event.model_version or "")
            for part in (event.content and event.content.parts) or ():
                if (result := part.function_response) and not event.partial:
                    yield returned(result.id, result.response.get("result", result.response))
                elif (call := part.function_call) and not event.partial:
                    yield called(call.id, call.name, call.args)
                elif part.text and not part.thought and (event.partial or not said):
                    yield Text(part.text)
            said = bool(event.partial)


def _content(tools: Mapping[str, str], message: Message) -> Any:
    """A message as ADK has it; `tools`: names by call."""
    from google.genai.types import Content, FunctionCall, FunctionResponse, Part

    if message.role == "tool":
        name, said = tools.get(message.tool_call_id or "", ""), {"result": message.content or ""}
        response = FunctionResponse(id=message.tool_call_id, name=name, response=said)
        return Content(role="user", parts=[Part(function_response=response)])
    parts = [Part(text=message.content)] if message.content else []
    for call in message.tool_calls:
        one = FunctionCall(id=call.id, name=call.name, args=json.loads(call.arguments))
        parts.append(Part(function_call=one))
    return Content(role="model" if message.role == "assistant" else "user", parts=parts)
