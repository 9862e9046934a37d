"""Runs that survive the end of the program: finished steps are read back, never done again.

    steps().step("model general", request, ask, Completion)     # inside a run, wherever it works
    await person("Refund 400 EUR?", ("yes", "no"))               # waits, for days if need be

A step's place is its position among the steps that were begun in the step around it: 3.1.2. Steps
that are begun in a fixed order keep their places, also when they run at once; where the order in
which they begin hangs on time, name the place.
"""

from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from kickwheel.core.errors import KickwheelError, UsageError

if TYPE_CHECKING:
    from kickwheel.agents.tools.tool import Effects

T = TypeVar("T")


class Waiting(KickwheelError):
    """A run waits for a person; it goes on once they have answered."""


class Steps(Protocol):
    """The steps of a run."""

    def step(
        self,
        name: str,
        arguments: Any,
        do: Callable[[], Awaitable[T]],
        kind: type[T],
        *,
        effects: "Effects" = "none",
        at: str = "",
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
        """

    def person(self, question: str, choices: tuple[str, ...] = ()) -> Coroutine[Any, Any, str]:
        """What a person answers."""


class Unkept:
    """Steps that nobody keeps: work outside a durable run."""

    def step(
        self,
        name: str,
        arguments: Any,
        do: Callable[[], Awaitable[T]],
        kind: type[T],
        *,
        effects: "Effects" = "none",
        at: str = "",
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
_steps: ContextVar[Steps] = ContextVar("kickwheel_steps", default=_UNKEPT)


def steps() -> Steps:
    """The steps of the run that goes on here; outside one, steps that are not kept."""
    return _steps.get()


def person(question: str, choices: tuple[str, ...] = ()) -> Coroutine[Any, Any, str]:
    """What a person answers; a step of the run, which ends here for now where they have not yet.

    Args:
        choices: what may be answered; anything where there are none.
    Raises:
        UsageError: the run is not kept, so it cannot wait.
    """
    return steps().person(question, choices)
