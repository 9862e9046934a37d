"""`kind: semantic_kernel`: agents of Semantic Kernel."""

from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import Any

from kickwheel.agents.bridges.heard import Told, called, returned, used
from kickwheel.agents.bridges.semantic_kernel import INSTALL
from kickwheel.agents.bridges.worker import TheirAgent
from kickwheel.agents.events import Text, as_it_happens
from kickwheel.records import Message


class SemanticKernelAgent(TheirAgent):
    """A chat completion agent of Semantic Kernel."""

    install = INSTALL

    def events(self, theirs: Any, messages: Sequence[Message]) -> AsyncGenerator[Told]:
        """What the agent does."""
        return as_it_happens(partial(_work, theirs, messages))


async def _work(theirs: Any, messages: Sequence[Message], tell: Callable[[Told], None]) -> None:
    from semantic_kernel.agents import ChatHistoryAgentThread
    from semantic_kernel.contents import ChatHistory, FunctionResultContent

    async def calling(context: Any, next: Any) -> None:
        call = context.function_call_content
        tell(called(call.id, call.name, call.arguments or "{}"))
        await next(context)

    async def heard(message: Any) -> None:
        for item in message.items:
            if isinstance(item, FunctionResultContent):
                tell(returned(item.id, str(item.result)))

    kernel = theirs.kernel.clone()
    kernel.add_filter("auto_function_invocation", calling)
    thread = ChatHistoryAgentThread(ChatHistory(messages=[_content(one) for one in messages]))
    stream = theirs.invoke_stream(thread=thread, kernel=kernel, on_intermediate_message=heard)
    async for piece in stream:
        if piece.content.content:
            tell(Text(piece.content.content))
        if count := piece.content.metadata.get("usage"):
            name = piece.content.ai_model_id or ""
            tell(used(count.prompt_tokens, count.completion_tokens, None, name))


def _content(message: Message) -> Any:
    """A message as Semantic Kernel has it."""
    from semantic_kernel import contents as theirs

    words = message.content or ""
    if message.role == "tool":
        result = theirs.FunctionResultContent(id=message.tool_call_id, result=words)
        return theirs.ChatMessageContent("tool", items=[result])
    items: list[Any] = [theirs.TextContent(text=words)]
    for call in message.tool_calls:
        one = theirs.FunctionCallContent(id=call.id, name=call.name, arguments=call.arguments)
        items.append(one)
    return theirs.ChatMessageContent(message.role, items=items)
