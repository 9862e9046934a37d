"""`kind: dspy`: modules and tools of DSPy.

DSPy writes tools and answers into its prompts as text: no `tools` reach the model, unless its
adapter is told to (`use_native_function_calling`); then every argument without a default is
required. The recorder sees such calls as text, and so does this bridge's model.
"""

import os
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from kickwheel.agents.bridges.bridge import KEY, Ours, TheirAgent, TheirTools, each, needs, spoken
from kickwheel.agents.bridges.heard import Told, answered, called, returned, used
from kickwheel.agents.bridges.threads import across
from kickwheel.agents.events import Text, as_it_happens
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools import Tool
from kickwheel.records import Message

INSTALL = "dspy"

# DSPy fetches a list of models, and their prices, unless it is told not to.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")


def tools(offered: Iterable[Offered]) -> list[Any]:
    """Our tools as DSPy's; they are awaited, so the program must be: `await program.acall(…)`."""
    with needs(INSTALL):
        from dspy import Tool

    def tool(ours: Ours) -> Any:
        arguments = dict(ours.schema.get("properties", {}))
        kinds = dict.fromkeys(arguments, Any)
        return Tool(ours.call, name=ours.name, desc=ours.about, args=arguments, arg_types=kinds)

    return [tool(ours) for ours in each(offered)]


def model(name: str, base_url: str, *, api_key: str = KEY) -> Any:
    """A model or agent that we serve, as DSPy's; it keeps no cache, of which we would not know."""
    with needs(INSTALL):
        from dspy import LM
    return LM(f"openai/{name}", api_base=base_url, api_key=api_key, cache=False)


class DspyAgent(TheirAgent):
    """A module of DSPy."""

    install = INSTALL

    question: str = "question"
    """Its input that takes the question; of a longer conversation, all of it as text."""
    answer: str = "answer"
    """Its output that is the answer."""

    def events(self, theirs: Any, messages: Sequence[Message]) -> AsyncGenerator[Told]:
        """What the module and those in it do."""
        return as_it_happens(partial(self._work, theirs, messages))

    async def _work(
        self, theirs: Any, messages: Sequence[Message], tell: Callable[[Told], None]
    ) -> None:
        import dspy
        from dspy.utils.callback import BaseCallback
        from dspy.utils.usage_tracker import UsageTracker

        say, begun = across(tell), set[str]()

        class Counting(UsageTracker):
            def add_usage(self, lm: str, usage_entry: dict[str, Any]) -> None:
                count = usage_entry
                say(used(count.get("prompt_tokens"), count.get("completion_tokens"), None, lm))

        class Hearing(BaseCallback):
            def on_tool_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
                if instance.name not in (
                    "finish",
                    "submit",
                ):  # Their way to say that they are done.
                    begun.add(call_id)
                    say(called(call_id, instance.name, inputs.get("kwargs", inputs)))

            def on_tool_end(
                self, call_id: str, outputs: Any, exception: BaseException | None = None
            ) -> None:
                if call_id in begun:
                    failed = exception is not None
                    say(returned(call_id, str(exception) if failed else outputs, failed=failed))

        callbacks = [*dspy.settings.callbacks, Hearing()]
        with dspy.context(callbacks=callbacks, usage_tracker=Counting(), track_usage=True):
            program = dspy.streamify(
                theirs,
                stream_listeners=[dspy.streaming.StreamListener(self.answer)],
                is_async_program=hasattr(theirs, "aforward"),
            )
            async with aclosing(program(**{self.question: spoken(messages)})) as items:
                async for item in items:
                    if isinstance(item, dspy.Prediction):
                        say(answered(item[self.answer]))
                    elif isinstance(item, dspy.streaming.StreamResponse):
                        say(Text(item.chunk))


class DspyTools(TheirTools):
    """Tools of DSPy, or functions as it takes them."""

    install = INSTALL

    def called(self, theirs: Any) -> Tool:
        """A tool of DSPy as ours."""
        import dspy

        tool = theirs if isinstance(theirs, dspy.Tool) else dspy.Tool(theirs)
        schema = tool.format_as_litellm_function_call()["function"]["parameters"]

        async def call(arguments: dict[str, Any]) -> Any:
            return await tool.acall(**arguments)

        return self.tool(tool.name, tool.desc or "", schema, call)
