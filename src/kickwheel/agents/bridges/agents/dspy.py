"""`kind: dspy`: modules of DSPy."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from kickwheel.agents.bridges.dspy import INSTALL
from kickwheel.agents.bridges.heard import Told, answered, called, returned, used
from kickwheel.agents.bridges.threads import across
from kickwheel.agents.bridges.worker import TheirAgent, spoken
from kickwheel.agents.events import Text, as_it_happens
from kickwheel.records import Message


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
                if instance.name not in ("finish", "submit"):  # So it says that it is done.
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
