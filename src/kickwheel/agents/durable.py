"""Runs that survive the end of the program: finished steps are read back, never done again.

    steps().step("model general", request, ask, Completion)     # inside a run, wherever it works
    await person("Refund 400 EUR?", ("yes", "no"))               # waits, for days if need be

A step's place is its position among the steps that were begun in the step around it: 3.1.2. Steps
that are begun in a fixed order keep their places, also when they run at once; where the order in
which they begin hangs on time, name the place.
"""

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from kickwheel.core.errors import KickwheelError, ToolError, UsageError
from kickwheel.core.journal import Question

if TYPE_CHECKING:
    from kickwheel.agents.tools.tool import Effects

T = TypeVar("T")
Said = Callable[[str | None], T]


class Waiting(KickwheelError):
    """A run waits for a person; it goes on once they have answered.

    Raised to whoever asked for the run, never inside it: work that asks a person just waits.
    """

    def __init__(self, run: str, questions: Sequence[Question] = ()) -> None:
        asked = "; ".join(f"«{question.text}»" for question in questions)
        super().__init__(f"run {run} waits for a person's answer" + (asked and f": {asked}"))
        self.run = run
        self.questions = tuple(questions)


class Steps(Protocol):
    """The steps of a run."""

    @property
    def goes_on(self) -> bool:
        """Whether the run that ends here goes on: later, or in another process. What it began
        elsewhere must then be left at work."""

    def step(
        self,
        name: str,
        arguments: Any,
        do: Callable[[], Awaitable[T]],
        kind: type[T],
        *,
        effects: "Effects" = "none",
        at: str = "",
        said: "Said[T] | None" = None,
    ) -> Coroutine[Any, Any, T]:
        """The result of `do`, kept; its place is taken when this is called, not when it is awaited.

        Args:
            name: what is done, for example `tool book`.
            arguments: all that the result depends on, as records or plain values.
            do: the work; the steps that it takes lie below this one.
            kind: type of the result, a record or plain value.
            effects: what the work does to the world. What may have been done and must not be done
                twice is asked about, not repeated.
            at: name of the place among its siblings; by default its number.
            said: for effects `once`: the result of work that a person says was done, by their
                words, or that failed, by `None`. By default their words are the result as text or
                JSON, and failure is a `ToolError`.
        """

    def person(self, question: str, choices: tuple[str, ...] = ()) -> Coroutine[Any, Any, str]:
        """What a person answers."""


class Unkept:
    """Steps that nobody keeps: work outside a durable run."""

    goes_on = False
    """What ends here ends for good."""

    def step(
        self,
        name: str,
        arguments: Any,
        do: Callable[[], Awaitable[T]],
        kind: type[T],
        *,
        effects: "Effects" = "none",
        at: str = "",
        said: "Said[T] | None" = None,
    ) -> Coroutine[Any, Any, T]:
        """The result of `do`."""
        return _plain(do)

    async def person(self, question: str, choices: tuple[str, ...] = ()) -> str:
        """Nobody can answer, since the run cannot wait."""
        raise UsageError(
            f"nobody can be asked «{question}»: this run is not kept, so it cannot wait"
        )


async def _plain(do: Callable[[], Awaitable[T]]) -> T:
    return await do()


_UNKEPT = Unkept()
STEPS: ContextVar[Steps] = ContextVar("kickwheel_steps", default=_UNKEPT)
"""Set by whoever keeps a run (`kept.py`)."""


def steps() -> Steps:
    """The steps of the run that goes on here; outside one, steps that are not kept."""
    return STEPS.get()


def told(name: str, read: Callable[[str], T]) -> Said[T]:
    """The result of work that may have been done, by what a person says who looked: their words,
    as `read` has them. That it failed is a `ToolError`.

    Args:
        name: what was done, or who did it.
    """

    def said(words: str | None) -> T:
        if words is None:
            raise ToolError(f"{name} failed, says a person who looked")
        return read(words)

    return said


def because(errors: Iterable[Exception | None]) -> ExceptionGroup | None:
    """What led to an error of the run that is raised `from` this: asked for again, the run makes
    the steps again that ended with these.

    Nothing that was kept may hang on how they ended.
    """
    found = [error for error in errors if error is not None]
    return ExceptionGroup("steps that failed", found) if found else None


def person(question: str, choices: tuple[str, ...] = ()) -> Coroutine[Any, Any, str]:
    """What a person answers; a step of the run.

    Where they have not yet, whatever else goes on in the run comes to its end first; then the run
    ends for now, and is done again up to here, from the journal, once they have answered.

    Args:
        choices: what may be answered; anything where there are none.
    Raises:
        UsageError: the run is not kept, so it cannot wait.
    """
    return steps().person(question, choices)
