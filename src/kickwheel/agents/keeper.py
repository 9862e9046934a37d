"""Keeps the runs of one process: begins and joins them, goes on with those that others left.

    async with Keeper(store) as keeper:
        await keeper.resume(again)                                   # what a killed program left
        answer = await keeper.run(work, Finished, agent="desk", asked=request, key="order-17")

A run belongs to one worker at a time. Whoever lost it stops: nothing that it does is written any
more, and a call that must not be made twice is not begun without being written first.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from kickwheel.agents.caller import Caller, acting_for, caller
from kickwheel.agents.durable import STEPS, Unkept, Waiting
from kickwheel.agents.kept import LiveRun, Scope
from kickwheel.core import redact
from kickwheel.core.errors import KickwheelError, RunLost, StoreError, UsageError
from kickwheel.core.identity import fresh
from kickwheel.core.journal import KeptRun, Question
from kickwheel.core.journal.presence import Presence
from kickwheel.core.journal.runs import Claimed, Open
from kickwheel.core.store import Store
from kickwheel.records import wire

T = TypeVar("T")

LEASE_S = 15.0
"""How long a worker may show no life before others take its runs."""
ANSWERS_S = 86_400.0
"""How long the answer of a run is kept for whoever asks for it again."""
AT_ONCE = 16
"""Runs that others left, gone on with at once."""

_log = logging.getLogger(__name__)


class Keeper:
    """The runs of this process; an async context manager.

    Args:
        store: where runs are kept.
        lease_s: seconds that a worker may show no life; the same for all workers of a store.
    """

    def __init__(self, store: Store, *, lease_s: float = LEASE_S) -> None:
        self._runs = store.runs
        self._presence = Presence(store.runs.workers)
        self._lease_s = lease_s
        self._lives: dict[str, LiveRun] = {}
        self._seen: dict[str, tuple[str, int, float]] = {}
        self._again: Callable[[KeptRun], Awaitable[Any]] | None = None
        self._knows: Callable[[str], bool] = lambda agent: True
        self._look = asyncio.Event()
        self._beaten = time.monotonic()
        self._forgotten = float("-inf")
        self._closing = False
        self._watching: list[asyncio.Task[None]] = []

    @property
    def worker(self) -> str:
        """Name of this worker."""
        return self._presence.worker

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._presence.calls, self._called)
        heard = self._runs.listen(self.worker, self._look.set)
        self._watching = [asyncio.create_task(self._beats()), asyncio.create_task(heard)]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing = True
        asyncio.get_running_loop().remove_reader(self._presence.calls)
        for live in self._lives.values():
            live.goes_on = True
        tasks = [live.task for live in self._lives.values() if live.task is not None]
        tasks += self._watching
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await self._runs.writer.written("")
        await asyncio.to_thread(self._leave)

    async def run(
        self,
        work: Callable[[], Awaitable[T]],
        kind: type[T],
        *,
        agent: str,
        asked: Any,
        key: str = "",
        identity: str = "",
    ) -> T:
        """What the work comes to, kept step by step; inside a kept run it is part of that one.

        Args:
            work: does it; its steps are `durable.steps()`.
            kind: type of the result, a record or plain value.
            agent: who does it, to find the work again when the program has ended.
            asked: what it is asked, as a record or plain values.
            key: the same for the same question asked again by the same caller, who then gets the
                same answer: it goes on where it was, waits with the first one, or is read back.
            identity: the run's id where it must be known beforehand, or a run that is there already
                is asked for; by default it follows from the key, or is new.
        Raises:
            Waiting: a person is asked first; run it again with the same key or identity once they
                have answered.
            ReplayError: the run was begun by other code.
            RunLost: it was cancelled, or another worker has it now.
            UsageError: the key was used for another question.
        """
        if not isinstance(STEPS.get(), Unkept):
            return await work()
        who = caller()
        again = bool(key or identity)
        if key and not identity:
            identity = wire.digest((who.tenant, who.user, agent, key))[:32]
        now = time.time()
        new = KeptRun(
            id=identity or fresh(16),
            agent=agent,
            asked=wire.to_bytes(asked),
            tenant=who.tenant,
            asker=who.user,
            state="running",
            owner=self.worker,
            created=now,
            updated=now,
        )
        if not again:
            self._runs.writer.begin(new)
            live = self._start(LiveRun(new, {}, {}, self._runs.writer), work, wait=False)
        else:
            found = await self._found(new, work)
            if isinstance(found, KeptRun):
                return wire.from_bytes(found.result or b"", kind)
            live = found
        result: T = await self._end_of(live)
        return result

    async def resume(
        self,
        again: Callable[[KeptRun], Awaitable[Any]],
        knows: Callable[[str], bool] = lambda agent: True,
    ) -> None:
        """Goes on, now and from now on, with runs that nobody works on any more: those of workers
        that ended, and those whose question was answered.

        Args:
            again: does the work of such a run, as it did before; its result is kept as the answer.
            knows: whether there is an agent of this name here; runs of others are left to theirs.
        """
        self._again, self._knows = again, knows
        await self._take_up()

    async def answer(self, run: str, text: str, path: str = "") -> Question:
        """Gives a person's answer to a run, which then goes on.

        Args:
            path: which question is answered, where it asks several.
        Raises:
            UsageError: the run asks nothing, or several things, or this is none of the choices.
        """
        question = await asyncio.to_thread(self._runs.answer, run, text, path)
        live = self._lives.get(run)
        if live is None or not live.answered(question.path, question.answer or ""):
            self._look.set()
        return question

    async def questions(self, run: str | None = None) -> Sequence[Question]:
        """What persons have not answered yet, oldest first; `run`: only this one's."""
        return await asyncio.to_thread(self._runs.questions, run)

    async def find(self, run: str) -> KeptRun | None:
        """The run of that id, with its answer if it has one."""
        return await asyncio.to_thread(self._runs.find, run)

    async def abandoned(self, run: KeptRun) -> bool:
        """Whether nobody works on a run that is said to go on: its worker has ended."""
        beat = await asyncio.to_thread(self._runs.beat_of, run.owner)
        return await self._abandoned(run, beat)

    async def cancel(self, run: str) -> bool:
        """Ends the run wherever it goes on; `False` where it had ended."""
        live = self._lives.get(run)
        if live is not None:
            live.stop(RunLost(run), goes_on=False)
        return await asyncio.to_thread(self._runs.cancel, run)

    async def _found(self, new: KeptRun, work: Callable[[], Awaitable[Any]]) -> LiveRun | KeptRun:
        """The run of this id: joined, begun, or gone on with; or what it came to."""
        while True:
            live = self._lives.get(new.id)
            if live is not None and not live.ending:
                _same_question(new, live.run)
                return live
            if live is not None and live.task is not None:
                await asyncio.wait({live.task})
            # Its end may be on its way still, and would be taken for that of the run begun now.
            await self._runs.writer.written("")
            found = await asyncio.to_thread(self._runs.begin, new)
            if found is new:
                if new.id in self._lives:
                    continue
                return self._start(LiveRun(new, {}, {}, self._runs.writer), work, wait=True)
            _same_question(new, found)
            if found.state == "done":
                return found
            if found.state == "waiting":
                await self._still_waiting(found)
            claimed = await self._claimed(found)
            if claimed is not None and new.id not in self._lives:
                return self._start(self._live(claimed), work, wait=True)
            if claimed is None:
                # Of this worker's own runs it is known at once how they go on.
                own = found.owner == self.worker
                await asyncio.sleep(0.001 if own else min(0.2, self._lease_s / 4))

    async def _still_waiting(self, found: KeptRun) -> None:
        """Returns if the run may go on.

        Raises:
            Waiting: none of its questions was answered.
        """
        waiting = await asyncio.to_thread(self._runs.questions, found.id)
        ready = await asyncio.to_thread(self._runs.open)
        if waiting and all(found.id != other.run.id for other in ready):
            raise Waiting(found.id, waiting)

    async def _claimed(self, found: KeptRun) -> Claimed | None:
        if found.id in self._lives:
            return None
        beat = await asyncio.to_thread(self._runs.beat_of, found.owner)
        free = found.state != "running" or await self._abandoned(found, beat)
        if not free:
            return None
        return await asyncio.to_thread(self._runs.claim, Open(found, beat), self.worker)

    async def _abandoned(self, run: KeptRun, beat: int) -> bool:
        """Whether the worker that has the run has ended, or shown no life for a lease."""
        if run.owner in ("", self.worker):
            return run.id not in self._lives
        if await asyncio.to_thread(self._presence.gone, run.owner):
            return True
        now = time.monotonic()
        owner, seen, since = self._seen.get(run.id, ("", -1, now))
        if (owner, seen) != (run.owner, beat):
            self._seen[run.id] = (run.owner, beat, now)
            return False
        return now - since >= self._lease_s

    def _live(self, claimed: Claimed) -> LiveRun:
        self._seen.pop(claimed.run.id, None)
        return LiveRun(claimed.run, claimed.steps, claimed.answers, self._runs.writer)

    def _start(self, live: LiveRun, work: Callable[[], Awaitable[Any]], *, wait: bool) -> LiveRun:
        self._lives[live.run.id] = live
        live.task = asyncio.create_task(self._kept(live, work, wait))
        return live

    async def _kept(self, live: LiveRun, work: Callable[[], Awaitable[Any]], wait: bool) -> Any:
        """The work as a kept run, with its end in the journal.

        Args:
            wait: until the end is in the journal, because somebody may ask for it again.
        """
        root = Scope(live)
        outside = STEPS.set(root)
        try:
            result = await work()
            live.left_over(root)
            if live.stopped is not None:
                raise live.stopped
            self._ended(live, "done", wire.to_bytes(result))
            if wait:
                await self._runs.writer.written(live.run.id)
            return result
        except asyncio.CancelledError:
            if live.stopped is not None:
                raise await self._stopped(live, live.stopped) from None
            if live.suspended:
                raise await self._waits(live) from None
            if not self._closing:
                self._ended(live, "cancelled")
            raise
        except Exception as error:
            raise await self._stopped(live, live.stopped or error) from None
        finally:
            # The task's context would hold the run, which holds the task.
            STEPS.reset(outside)
            live.ending = True
            if self._lives.get(live.run.id) is live:
                del self._lives[live.run.id]

    async def _stopped(self, live: LiveRun, error: Exception) -> Exception:
        """The error, after the journal has it; a run that is asked for again makes the steps that
        led to it again."""
        with contextlib.suppress(asyncio.CancelledError):
            # What stopped the run also cancelled it, and that may only arrive now.
            await asyncio.sleep(0)
        if self._runs.writer.refused(live.run.id) is None and not isinstance(error, RunLost):
            writer = self._runs.writer
            writer.forget(live.run.id, live.run.owner, live.failed_by(error))
            self._ended(live, "failed", None, redact.text(f"{type(error).__name__}: {error}"))
            try:
                await writer.written(live.run.id)
            except KickwheelError as worse:
                _log.warning("%s", worse)
        return error

    async def _waits(self, live: LiveRun) -> Waiting:
        self._ended(live, "waiting")
        await self._runs.writer.written(live.run.id)
        # An answer may have come while the run was ending.
        self._look.set()
        return Waiting(live.run.id, live.questions)

    def _ended(
        self, live: LiveRun, state: Any, result: bytes | None = None, error: str | None = None
    ) -> None:
        live.ending = True
        self._runs.writer.end(live.run.id, live.run.owner, state, result, error)

    async def _end_of(self, live: LiveRun) -> Any:
        """What the run comes to; when nobody waits for it any more it is cancelled."""
        assert live.task is not None
        live.waiters += 1
        try:
            return await asyncio.shield(live.task)
        except asyncio.CancelledError:
            if live.waiters == 1 and not live.task.done():
                live.task.cancel()
                await asyncio.wait({live.task})
            if live.task.done() and not live.task.cancelled():
                live.task.exception()
            raise
        finally:
            live.waiters -= 1

    def _called(self) -> None:
        if self._presence.heard():
            self._look.set()

    async def _beats(self) -> None:
        """Shows that this worker lives, and looks for runs that nobody works on."""
        while True:
            # Not `wait_for`: on Python 3.11 it loses a cancellation that comes with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._lease_s / 4):
                    await self._look.wait()
            self._look.clear()
            try:
                await self._beat()
                await self._take_up()
                await self._forget()
            except StoreError as error:
                _log.warning("%s", error)
                if time.monotonic() - self._beaten >= self._lease_s:
                    # Others may have taken the runs by now.
                    for live in list(self._lives.values()):
                        live.stop(error)

    async def _beat(self) -> None:
        lives = [live for live in self._lives.values() if not live.ending]
        if lives:
            # What was put before is written first, so that new runs are there to be seen.
            await self._runs.writer.written("")
            owned = await asyncio.to_thread(self._runs.beat, self.worker)
            for live in lives:
                if live.run.id not in owned and not live.ending and live.stopped is None:
                    now = await self.find(live.run.id)
                    cancelled = now is not None and now.state == "cancelled"
                    live.stop(RunLost(live.run.id), goes_on=not cancelled)
        self._beaten = time.monotonic()

    async def _take_up(self) -> None:
        again = self._again
        if again is None:
            return
        found = await asyncio.to_thread(self._runs.open)
        self._seen = {run: seen for run, seen in self._seen.items() if _among(run, found)}
        for one in found:
            alone = sum(live.waiters == 0 for live in self._lives.values())
            if alone >= AT_ONCE or self._closing:
                return
            run = one.run
            if run.id in self._lives or not self._knows(run.agent):
                continue
            if run.state == "running" and not await self._abandoned(run, one.beat):
                continue
            claimed = await asyncio.to_thread(self._runs.claim, one, self.worker)
            if claimed is None or run.id in self._lives:
                continue
            _log.info("run %s of %s goes on", run.id, run.agent)
            with acting_for(Caller(user=run.asker, tenant=run.tenant)):
                live = self._start(self._live(claimed), partial(again, claimed.run), wait=True)
            assert live.task is not None
            live.task.add_done_callback(self._taken_up)

    def _taken_up(self, task: asyncio.Task[Any]) -> None:
        self._look.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.log(logging.INFO if isinstance(error, Waiting) else logging.WARNING, "%s", error)

    async def _forget(self) -> None:
        if time.monotonic() - self._forgotten > ANSWERS_S / 24:
            self._forgotten = time.monotonic()
            await asyncio.to_thread(self._runs.forget, time.time() - ANSWERS_S)

    def _leave(self) -> None:
        try:
            self._runs.leave(self.worker)
        except StoreError as error:
            _log.warning("%s", error)
        self._presence.leave()


def _same_question(new: KeptRun, found: KeptRun) -> None:
    if (new.agent, new.asked, new.tenant, new.asker) != (
        found.agent,
        found.asked,
        found.tenant,
        found.asker,
    ):
        raise UsageError(
            f"the key of run {found.id} was used for another question. Ask this one with a key of "
            "its own."
        )


def _among(run: str, found: Sequence[Open]) -> bool:
    return any(one.run.id == run for one in found)
