"""`kind: llamaindex`: agents of LlamaIndex."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from kickwheel.agents.bridges.heard import Told, answered, called, returned, used
from kickwheel.agents.bridges.llamaindex import INSTALL
from kickwheel.agents.bridges.worker import TheirAgent
from kickwheel.agents.events import Text
from kickwheel.records import Message
from kickwheel.records.openai import message_to_openai


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
