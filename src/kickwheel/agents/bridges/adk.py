"""`kind: adk`: agents and tools of Google's Agent Development Kit."""

import json
import os
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any

from kickwheel.agents.bridges.bridge import KEY, Ours, TheirAgent, TheirTools, each, needs
from kickwheel.agents.bridges.heard import Told, called, returned, used
from kickwheel.agents.events import Text
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools import Tool
from kickwheel.core.errors import ModelError
from kickwheel.core.identity import fresh
from kickwheel.records import Message

INSTALL = "google-adk litellm"

# LiteLLM, by which ADK speaks OpenAI's protocol, fetches a list of prices when it is imported.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")


def tools(offered: Iterable[Offered]) -> list[Any]:
    """Our tools as ADK's."""
    with needs(INSTALL):
        from google.adk.tools import BaseTool
        from google.genai.types import FunctionDeclaration

    class Theirs(BaseTool):
        def __init__(self, ours: Ours) -> None:
            super().__init__(name=ours.name, description=ours.about)
            self._ours = ours

        def _get_declaration(self) -> Any:
            return FunctionDeclaration(
                name=self.name,
                description=self.description,
                parameters_json_schema=self._ours.schema,
            )

        async def run_async(self, *, args: dict[str, Any], tool_context: Any) -> str:
            return await self._ours.call(**args)

    return [Theirs(ours) for ours in each(offered)]


def model(name: str, base_url: str, *, api_key: str = KEY) -> Any:
    """A model or agent that we serve, as ADK's, by LiteLLM."""
    with needs(INSTALL):
        from google.adk.models.lite_llm import LiteLlm
    return LiteLlm(model=f"openai/{name}", api_base=base_url, api_key=api_key)


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
        *earlier, asked = map(_content, messages)
        for content in earlier:
            author = theirs.name if content.role == "model" else "user"
            await runner.session_service.append_event(
                session, Event(author=author, content=content)
            )
        config = RunConfig(streaming_mode=StreamingMode.SSE)
        said = False
        async for event in runner.run_async(**whose, new_message=asked, run_config=config):
            if event.error_code:
                raise ModelError(event.error_message or event.error_code, again=False)
            if (count := event.usage_metadata) and not event.partial:
                yield used(
                    count.prompt_token_count,
                    count.candidates_token_count,
                    count.cached_content_token_count,
                    event.model_version or "",
                )
            for part in (event.content and event.content.parts) or ():
                if part.function_response and not event.partial:
                    one = part.function_response
                    yield returned(one.id, one.response.get("result", one.response))
                elif part.function_call and not event.partial:
                    yield called(
                        part.function_call.id, part.function_call.name, part.function_call.args
                    )
                elif part.text and not part.thought and (event.partial or not said):
                    yield Text(part.text)
            said = bool(event.partial)


class AdkTools(TheirTools):
    """Tools of ADK."""

    install = INSTALL

    def called(self, theirs: Any) -> Tool:
        """A tool of ADK, or a function as ADK takes it, as ours."""
        from google.adk.tools import BaseTool, FunctionTool

        tool = theirs if isinstance(theirs, BaseTool) else FunctionTool(theirs)
        told = tool._get_declaration()
        schema = told.parameters_json_schema or {"type": "object", "properties": {}}

        async def call(arguments: dict[str, Any]) -> Any:
            return await tool.run_async(args=arguments, tool_context=None)

        return self.tool(tool.name, tool.description, schema, call)


def _content(message: Message) -> Any:
    """A message as ADK has it."""
    from google.genai.types import Content, FunctionCall, FunctionResponse, Part

    if message.role == "tool":
        response = FunctionResponse(
            id=message.tool_call_id, name="tool", response={"result": message.content or ""}
        )
        return Content(role="user", parts=[Part(function_response=response)])
    parts = [Part(text=message.content)] if message.content else []
    for call in message.tool_calls:
        one = FunctionCall(id=call.id, name=call.name, args=json.loads(call.arguments))
        parts.append(Part(function_call=one))
    return Content(role="model" if message.role == "assistant" else "user", parts=parts)
