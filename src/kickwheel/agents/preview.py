"""The request that an agent would send first: it works up to there, and stops.

Nothing is guessed: the agent really runs, with its instructions, memory and tools, and ends in the
place where a model would have been asked. What has effects is not done on the way.
"""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from contextvars import ContextVar

from kickwheel.agents.tools import Limits, Tool
from kickwheel.core.errors import UsageError
from kickwheel.models.chat import ChatRequest, Model
from kickwheel.records import Message, ToolCall


class Reached(BaseException):
    """The first request of a run that only shows it; no `Exception`, so that no kind catches it."""

    def __init__(self, model: Model, request: ChatRequest) -> None:
        super().__init__(model.name)
        self.model, self.request = model, request


_looking: ContextVar[bool] = ContextVar("kickwheel_looking", default=False)


def looking() -> bool:
    """Whether this run goes no further than its first question to a model."""
    return _looking.get()


async def first(model: Model, messages: Sequence[Message]) -> tuple[Model, ChatRequest]:
    """The model that is asked first about the conversation, and what.

    Args:
        model: an agent; or a model, which is asked itself.
    Raises:
        UsageError: the agent answers without a model, or would do something with effects before.
        KickwheelError: what comes before the first question fails.
    """
    run = getattr(model, "run", None)
    if run is None:
        return model, ChatRequest(messages=tuple(messages))
    _looking.set(True)
    try:
        async with aclosing(run(messages)) as events:
            async for _ in events:
                pass
    except Reached as reached:
        return reached.model, reached.request
    finally:
        _looking.set(False)
    raise UsageError(f"{model.name} answers this without asking a model")


def harmless(tools: Mapping[str, Tool], calls: Sequence[ToolCall]) -> None:
    """Passes where the calls only read.

    Raises:
        UsageError: one does not.
    """
    for call in calls:
        tool = tools.get(call.name)
        limits: Limits = getattr(tool, "limits", None) or Limits()
        if tool is not None and limits.effects != "none":
            raise UsageError(
                f"{call.name} would be called before any model is asked, and may have effects: "
                "what is asked then cannot be shown without doing it"
            )
