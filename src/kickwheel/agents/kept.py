"""One run that is kept while it goes on: its steps, their places, and when nothing moves any more.

A step is written before it acts and when it is done. What was written before the program ended is
found again under the same path, and must be the same: same name, same arguments.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from kickwheel.agents import failure
from kickwheel.agents.caller import call_key
from kickwheel.agents.durable import STEPS, Said, told
from kickwheel.core import redact
from kickwheel.core.errors import KickwheelError, ReplayError, ToolError
from kickwheel.core.journal import KeptRun, KeptStep, Question
from kickwheel.core.journal.writer import Writer
from kickwheel.records import wire

if TYPE_CHECKING:
    from kickwheel.agents.tools.tool import Effects

T = TypeVar("T")

HOLD_S = 0.05
"""How long a run in which only persons are waited for stays in memory."""
PERSON = "person"
_SHOWN = 300


class LiveRun:
    """A run that goes on in this process.

    Args:
        run: as the journal has it; owned by this worker.
        found: the steps that were begun before, by path.
        answers: what persons have answered, by path.
        writer: takes what happens.
    """

    def __init__(
        self, run: KeptRun, found: dict[str, KeptStep], answers: dict[str, str], writer: Writer
    ) -> None:
        self.run = run
        self.task: asyncio.Task[Any] | None = None
        self.waiters = 0
        """Who waits for its end."""
        self.ending = False
        self.stopped: KickwheelError | None = None
        """Why it cannot go on, whatever its work makes of it."""
        self.suspended = False
        """Whether it ends for now, because only persons are waited for."""
        self.goes_on = False
        """Whether it goes on after its end here, or may: later, or in another process."""
        self._found = found
        self._answers = answers
        self._writer = writer
        self._parked: dict[str, tuple[Question, asyncio.Future[str]]] = {}
        self._failed: list[tuple[str, BaseException]] = []
        self._busy = 1
        """Steps that are at work themselves, and do not wait for steps or persons below them."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def questions(self) -> list[Question]:
        """What persons are asked right now."""
        return [question for question, _ in self._parked.values()]

    def stop(self, error: KickwheelError, *, goes_on: bool = True) -> None:
        """Ends the run with `error`, even where its work would catch it.

        Args:
            goes_on: whether another process has it, or may have it.
        """
        if self.stopped is None:
            self.stopped = error
            self.goes_on = goes_on
        if self.task is not None:
            self.task.cancel()

    def answered(self, path: str, text: str) -> bool:
        """Goes on with a person's answer; `False` where nobody waits for it here."""
        if path not in self._parked or self.suspended:
            return False
        _, future = self._parked[path]
        if not future.done():
            future.set_result(text)
        return True

    def failed_by(self, error: BaseException) -> list[str]:
        """Paths of the steps that failed with `error`, or with what led to it."""
        involved = set(map(id, failure.chain(error)))
        return [path for path, reason in self._failed if id(reason) in involved]

    def left_over(self, scope: "Scope") -> None:
        """Returns if every step that was done below `scope` before was done now, too.

        Raises:
            ReplayError: one was not.
        """
        for path, step in self._found.items():
            if step.state == "done" and path.rpartition(".")[0] == scope.path:
                raise self._differs(path, f"«{step.name}»", "no step at all")

    async def step(
        self,
        scope: "Scope",
        path: str,
        name: str,
        arguments: Any,
        do: Callable[[], Awaitable[T]],
        kind: type[T],
        effects: "Effects",
        said: Said[T] | None,
    ) -> T:
        """The result of the step at `path`; see `durable.Steps.step`."""
        if self.stopped is not None:
            raise self.stopped
        digest = wire.digest(arguments)[:32]
        found = self._found.pop(path, None) if self._found else None
        if found is not None:
            self._same(path, found, name, digest)
            if found.state == "done":
                return self._read(path, found, kind)
            if found.state == "failed":
                error = failure.read(found.result)
                self._failed.append((path, error))
                raise error
            if effects == "once" and not self._was_asking(path):
                read = said or told(name, partial(_as, kind))
                found_out = await self._uncertain(scope, path, name, digest, arguments, read)
                if found_out is not None:
                    return found_out[0]
        started = time.time()
        self._put(path, KeptStep(name, digest, "started", None), started)
        if effects == "once":
            await self._written(sync=True)
        inner = Scope(self, path, once=effects == "once")
        self._opened(scope)
        outer = STEPS.set(inner)
        try:
            if effects == "none":
                result = await do()
            else:
                with call_key(f"{self.run.id}/{path}"):
                    result = await do()
            if self._found:
                self.left_over(inner)
        except Exception as error:
            if self.stopped is None:
                self._keep_failure(path, name, digest, error, started, effects)
            raise
        finally:
            STEPS.reset(outer)
            self._closed(scope)
        done = KeptStep(name, digest, "done", wire.to_bytes(result))
        self._put(path, done, started, time.time())
        if effects == "once":
            await self._written()
        return result

    async def person(
        self, scope: "Scope", path: str, question: str, choices: tuple[str, ...]
    ) -> str:
        """What a person answers to the question at `path`."""
        digest = wire.digest((question, choices))[:32]
        found = self._found.pop(path, None) if self._found else None
        if found is not None:
            self._same(path, found, PERSON, digest)
            if found.state == "done":
                return self._read(path, found, str)
        started = time.time()
        if path not in self._answers:
            self._put(path, KeptStep(PERSON, digest, "started", None), started)
        answer = await self._answer(scope, path, question, choices)
        done = KeptStep(PERSON, digest, "done", wire.to_bytes(answer))
        self._put(path, done, started, time.time())
        self._writer.settle(self.run.id, self.run.owner, path)
        if scope.once:
            # From here on the call around it may be made: no longer one that only asks.
            await self._written(sync=True)
        return answer

    async def _answer(self, scope: "Scope", path: str, text: str, choices: tuple[str, ...]) -> str:
        if path in self._answers:
            return self._answers.pop(path)
        self._writer.ask(self.run.id, self.run.owner, path, text, choices)
        await self._written()
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        asked = Question(run=self.run.id, path=path, text=text, choices=choices, asked=time.time())
        self._parked[path] = (asked, future)
        scope.open += 1
        if scope.open == 1:
            self._busy -= 1
        self._settle()
        try:
            return await future
        finally:
            if not self.suspended:
                del self._parked[path]
            scope.open -= 1
            if scope.open == 0:
                self._moves(1)

    async def _uncertain(
        self, scope: "Scope", path: str, name: str, digest: str, arguments: Any, read: Said[T]
    ) -> tuple[T] | None:
        """What came of a call that may have been made, by a person's words; `None` if it is to be
        made now."""
        shown = redact.text(wire.to_bytes(arguments).decode())
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
        asked, remark = f"{path}?", ""
        while True:
            answer = await self._answer(
                scope,
                asked,
                f"{remark}The program ended in the call «{name}» {shown}: it may have been made. "
                'Look, and answer "done: RESULT", "again" to make it now, or "failed".',
                (),
            )
            self._writer.settle(self.run.id, self.run.owner, asked)
            word, _, rest = answer.strip().partition(":")
            word = word.strip().casefold()
            if word == "again":
                return None
            remark = f"«{answer}» is none of the answers. "
            if word in ("done", "failed"):
                try:
                    result = read(rest.strip() if word == "done" else None)
                except ToolError as error:
                    self._keep_failure(path, name, digest, error, time.time(), "once")
                    raise
                except ValueError as error:
                    remark = f"What was done cannot be read ({error}). "
                else:
                    now, kept = time.time(), wire.to_bytes(result)
                    self._put(path, KeptStep(name, digest, "done", kept), now, now)
                    await self._written()
                    return (result,)

    def _keep_failure(
        self,
        path: str,
        name: str,
        digest: str,
        error: Exception,
        started: float,
        effects: "Effects",
    ) -> None:
        self._failed.append((path, error))
        kept = failure.written(error, effects)
        if kept is not None:
            self._put(path, KeptStep(name, digest, "failed", kept), started, time.time())

    def _was_asking(self, path: str) -> bool:
        """Whether the step had not acted yet, since it was asking a person first."""
        below = f"{path}."
        return any(
            step.name == PERSON and step.state == "started" and other.startswith(below)
            for other, step in self._found.items()
        )

    def _read(self, path: str, found: KeptStep, kind: type[T]) -> T:
        try:
            return wire.from_bytes(found.result or b"", kind)
        except ValueError as error:
            raise self._differs(path, f"a result as it was kept ({error})", str(kind)) from error

    def _same(self, path: str, found: KeptStep, name: str, digest: str) -> None:
        if found.name != name:
            raise self._differs(path, f"«{found.name}»", f"«{name}»")
        if found.arguments != digest:
            raise self._differs(
                path,
                f"«{name}» with arguments of digest {found.arguments[:12]}",
                f"with arguments of digest {digest[:12]}",
            )

    def _differs(self, path: str, expected: str, found: str) -> ReplayError:
        error = ReplayError(
            f"run {self.run.id} of {self.run.agent}, step {path}: the journal has {expected}, and "
            f"the code now makes {found}. The run was begun by other code, another app file or "
            "another model, or something in it hangs on time or chance and is no step. Go on with "
            "what it was begun with, or cancel it and ask again."
        )
        self.stop(error)
        return error

    def _put(self, path: str, step: KeptStep, started: float, ended: float | None = None) -> None:
        refused = self._writer.refused(self.run.id)
        if refused is not None:
            self.stop(refused)
            raise refused
        self._writer.step(self.run.id, self.run.owner, path, step, started, ended)

    async def _written(self, *, sync: bool = False) -> None:
        try:
            await self._writer.written(self.run.id, sync=sync)
        except KickwheelError as error:
            self.stop(error)
            raise

    def _opened(self, scope: "Scope") -> None:
        # The first step below another takes over from it; each further one is at work beside.
        scope.open += 1
        if scope.open > 1:
            self._moves(1)

    def _closed(self, scope: "Scope") -> None:
        scope.open -= 1
        if scope.open > 0:
            self._moves(-1)

    def _moves(self, change: int) -> None:
        self._busy += change
        self._settle()

    def _settle(self) -> None:
        if self._busy > 0 or not self._parked:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self._timer is None and not self.ending:
            self._timer = asyncio.get_running_loop().call_later(HOLD_S, self._suspend)

    def _suspend(self) -> None:
        self._timer = None
        unanswered = all(not future.done() for _, future in self._parked.values())
        if self._busy == 0 and self._parked and unanswered and not self.ending:
            self.suspended = self.goes_on = True
            if self.task is not None:
                self.task.cancel()


class Scope:
    """Where steps are begun: the run itself, or a step that is at work; see `durable.Steps`."""

    __slots__ = ("_begun", "_live", "_named", "once", "open", "path")

    def __init__(self, live: LiveRun, path: str = "", *, once: bool = False) -> None:
        self.path = path
        self.once = once
        """Whether the step around must not be made twice."""
        self.open = 0
        """Steps below that are at work, or wait for a person."""
        self._live = live
        self._begun = 0
        self._named: dict[str, int] = {}

    def step(
        self,
        name: str,
        arguments: Any,
        do: Callable[[], Awaitable[T]],
        kind: type[T],
        *,
        effects: "Effects" = "none",
        at: str = "",
        said: Said[T] | None = None,
    ) -> Coroutine[Any, Any, T]:
        """The result of `do`, kept."""
        path = self._place(at)
        return self._live.step(self, path, name, arguments, do, kind, effects, said)

    @property
    def goes_on(self) -> bool:
        """Whether the run goes on after its end here."""
        return self._live.goes_on

    def person(self, question: str, choices: tuple[str, ...] = ()) -> Coroutine[Any, Any, str]:
        """What a person answers."""
        return self._live.person(self, self._place(""), question, choices)

    def _place(self, at: str) -> str:
        if at:
            # Marked, so that no name is taken for a number; no dot, which parts steps from steps.
            place = "@" + at.replace(".", "·")
            count = self._named[place] = self._named.get(place, 0) + 1
            place = place if count == 1 else f"{place}#{count}"
        else:
            self._begun += 1
            place = str(self._begun)
        return f"{self.path}.{place}" if self.path else place


def _as(kind: type[T], words: str) -> T:
    """A person's words as the result of a step: as they are where it is text, else read as JSON.

    Raises:
        ValueError: they are no such result.
    """
    return cast(T, words) if kind is str else wire.from_bytes(words, kind)
