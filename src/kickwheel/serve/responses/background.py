"""Responses that go on while nobody waits for them.

Each is a kept run under the response's own number. An agent's goes on after a restart, and while a
person is asked; a model's answer that its process did not bring to an end has failed.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from copy import deepcopy
from dataclasses import replace

from msgspec import structs
from starlette.concurrency import run_in_threadpool

from kickwheel.agents.events import SPENT, WHY, Finished
from kickwheel.agents.keeper import Keeper
from kickwheel.agents.work import Worker
from kickwheel.core.errors import StoreError
from kickwheel.core.journal import KeptRun
from kickwheel.models.caller import Caller, acting_for
from kickwheel.models.chat import CallDelta, Collected, Delta, Done, Model, TextDelta
from kickwheel.records import wire
from kickwheel.serve.answering import Answering, Question
from kickwheel.serve.errors import Refused, refusal
from kickwheel.serve.responses.kept import Item, KeptResponse, KeptResponses, Response
from kickwheel.serve.responses.unfolding import SETTLED, Event, Unfolding, refolded

SWEEP_S = 600.0
"""Seconds between two looks at all that nobody works on here; of runs an end is known for a day."""
BEGUN_S = 60.0
"""Seconds after which a response's run has surely begun."""
LOOK_S = 0.5
"""Seconds between two looks at a response that goes on elsewhere."""
RESPONSE_ID = "resp_"
"""What a response's id has before the number of its trace and run."""
_LAST = tuple(f"response.{status}" for status in SETTLED)
_STOPPED = "The server ended before the response did; ask again."

_log = logging.getLogger(__name__)


class Background:
    """The responses that go on in this process, and how those stand that go on elsewhere.

    Args:
        keeper: keeps runs; without one nothing outlives the process.
    """

    def __init__(
        self, answering: Answering, kept: KeptResponses, keeper: Keeper | None = None
    ) -> None:
        self._answering = answering
        self._kept = kept
        self._keeper = keeper
        self._lives: dict[str, _Live] = {}

    async def begin(
        self,
        model: Model,
        question: Question,
        response: Response,
        items: Sequence[Item],
        who: Caller,
    ) -> None:
        """Begins the work on a response, which is kept from now on."""
        identity = response["id"]
        live = self._lives[identity] = _Live(response)
        try:
            await run_in_threadpool(self._kept.add, response, items, who)
        except BaseException:
            del self._lives[identity]
            raise
        live.kept = isinstance(model, Worker) and model.keeper is not None
        live.unfolding.begin()
        live.task = asyncio.create_task(self._work(live, model, question, who))

    async def now(self, identity: str, who: Caller) -> KeptResponse:
        """The response as it stands.

        Raises:
            Refused: the caller has none of that id (404).
        """
        found = await run_in_threadpool(self._kept.get, identity, who)
        live = self._lives.get(identity)
        if live is not None and not live.over:
            return replace(found, response=live.response)
        if found.response["status"] in SETTLED:
            return found
        if not await self._settle(found.response):
            return found
        return await run_in_threadpool(self._kept.get, identity, who)

    async def cancel(self, identity: str, who: Caller) -> Response:
        """Ends the response; one that has ended stays as it is.

        Raises:
            Refused: the caller has none of that id (404), or it is not in the background (400).
        """
        found = await self.now(identity, who)
        if not found.response["background"]:
            what = "only background responses are cancelled so; for others close the connection"
            raise Refused(400, what, param="response_id")
        if found.response["status"] not in SETTLED:
            live = self._lives.get(identity)
            if live is not None:
                live.unwanted = True
            if self._keeper is not None:
                await self._keeper.cancel(_run(identity))
            if live is not None and live.task is not None and not live.over:
                live.task.cancel()
                await asyncio.wait({live.task})
            else:
                found.response["status"] = "cancelled"
                await run_in_threadpool(self._kept.settle, found.response)
        return (await self.now(identity, who)).response

    async def events(self, identity: str, who: Caller, after: int = -1) -> AsyncGenerator[Event]:
        """Events of the response's stream with a higher number than `after`, until it has ended.

        A response that went on after a restart has lost the events before it; then its stream is
        told anew from what it came to.

        Raises:
            Refused: the caller has none of that id (404).
        """
        while True:
            found = await self.now(identity, who)
            live = self._lives.get(identity)
            if live is not None and not live.over:
                async for event in live.follow(after):
                    after = event["sequence_number"]
                    yield event
                    if event["type"] in _LAST:
                        return
                continue
            if found.response["status"] in SETTLED:
                break
            for event in refolded(found.response):
                if event["sequence_number"] > after:
                    after = event["sequence_number"]
                    yield event
            await asyncio.sleep(LOOK_S)
        events: Sequence[Item] = found.events or refolded(found.response)
        if events[-1]["sequence_number"] <= after:
            events = [{**events[-1], "sequence_number": after + 1}]
        for told in events:
            if told["sequence_number"] > after:
                yield dict(told)

    async def watch(self) -> None:
        """Keeps, from time to time, how responses ended that nobody asks for."""
        while True:
            try:
                for response in await run_in_threadpool(self._kept.open):
                    if response["id"] not in self._lives:
                        await self._settle(response)
            except StoreError as error:
                _log.warning("%s", error)
            await asyncio.sleep(SWEEP_S)

    async def close(self) -> None:
        """Waits for nothing: what is kept goes on elsewhere, the rest has failed."""
        alone = [live for live in self._lives.values() if not live.kept]
        for live in alone:
            if live.task is not None:
                live.task.cancel()
        if alone:
            await asyncio.wait({live.task for live in alone if live.task is not None})

    async def _work(self, live: "_Live", model: Model, question: Question, who: Caller) -> None:
        try:
            await self._ask(live, model, question, who)
        except asyncio.CancelledError:
            if not live.kept:
                live.error = live.error or Refused(503, _STOPPED)
        except Exception as error:
            live.error = live.error or error
        try:
            if live.response["status"] not in SETTLED:
                await self._end(live, question.trace)
            if live.response["status"] in SETTLED:
                await run_in_threadpool(self._kept.settle, live.response, live.events)
        except StoreError as error:
            _log.warning("response %s: %s", live.response["id"], error)
        finally:
            live.end()
            del self._lives[live.response["id"]]

    async def _ask(self, live: "_Live", model: Model, question: Question, who: Caller) -> None:
        if live.kept:
            with acting_for(replace(who, run=question.trace)):
                await self._answering.answer(model, question, live)
            return
        with acting_for(who):
            if self._keeper is None:
                await self._answering.answer(model, question, live)
                return
            await self._keeper.run(
                lambda: self._as_run(live, model, question),
                Finished,
                agent=question.name,
                asked=structs.replace(question.request, whole=False),
                identity=question.trace,
            )

    async def _end(self, live: "_Live", run: str) -> None:
        """Says how the response ended, if it did: it has not while a person is asked."""
        if live.unwanted:
            live.unfolding.cancel()
        elif live.error is not None and not await self._waits(run):
            live.unfolding.fail(refusal(live.error, live.response["id"]))

    async def _as_run(self, live: "_Live", model: Model, question: Question) -> Finished:
        await self._answering.answer(model, question, live)
        done = live.collected.done
        if live.error is not None or done is None:
            raise live.error or AssertionError("an answer ends with Done or an error")
        return Finished(
            why=WHY[done.finish_reason],
            answer=live.collected.message(),
            usage=done.usage,
            steps=1,
        )

    async def _waits(self, run: str) -> bool:
        """Whether the run waits for a person."""
        found = await self._keeper.find(run) if self._keeper is not None else None
        return found is not None and found.state == "waiting"

    async def _settle(self, response: Response) -> bool:
        """Whether a response that nobody here works on has ended; then that is kept."""
        unfolding = Unfolding(response, lambda event: None)
        await self._look(unfolding)
        if unfolding.response["status"] not in SETTLED:
            return False
        await run_in_threadpool(self._kept.settle, unfolding.response)
        return True

    async def _look(self, unfolding: Unfolding) -> None:
        """Takes over how the response's run has ended, if it has."""
        identity = unfolding.response["id"]
        run = None if self._keeper is None else await self._keeper.find(_run(identity))
        if run is None:
            # Another process may be about to begin it.
            if time.time() - unfolding.response["created_at"] > BEGUN_S:
                unfolding.fail(Refused(503, _STOPPED))
        elif run.state == "done":
            _finish(unfolding, run.agent, wire.from_bytes(run.result or b"", Finished))
        elif run.state == "cancelled":
            unfolding.cancel()
        elif run.state == "failed":
            unfolding.fail(Refused(502, run.error or "its run failed"))
        elif run.state == "running" and self._keeper is not None and await self._lost(run):
            await self._keeper.cancel(run.id)
            unfolding.fail(Refused(503, _STOPPED))

    async def _lost(self, run: KeptRun) -> bool:
        """Whether a run has no worker and gets none: agents' runs are gone on with, others not."""
        assert self._keeper is not None
        if await self._answering.kind(run.agent) == "agent":
            return False
        return await self._keeper.abandoned(run)


class _Live:
    """A response that goes on here."""

    begun = True
    """Its id is known, so that an error is the response's, and no status."""
    ended = True
    """Whoever asks for it may come and go."""

    def __init__(self, response: Response) -> None:
        self.events: list[Event] = []
        self.unfolding = Unfolding(response, self._tell)
        self.collected = Collected()
        self.task: asyncio.Task[None] | None = None
        self.error: Exception | None = None
        self.kept = False
        """Whether its run goes on elsewhere when this process ends."""
        self.unwanted = False
        """Whether somebody cancelled it."""
        self.over = False
        """Whether nothing more is told here."""
        self._more = asyncio.Event()

    @property
    def response(self) -> Response:
        """As far as it has come."""
        return self.unfolding.response

    async def add(self, delta: Delta) -> None:
        """Takes the next piece."""
        self.collected.add(delta)
        self.unfolding.add(delta)

    async def fail(self, error: Exception) -> None:
        """Takes what ended the answer."""
        self.error = error

    def end(self) -> None:
        """Nothing more comes."""
        self.over = True
        self._more.set()

    async def follow(self, after: int) -> AsyncGenerator[Event]:
        """Events with a higher number, as they come, until nothing more is told here."""
        place = after + 1
        while True:
            while place < len(self.events):
                yield self.events[place]
                place += 1
            if self.over:
                return
            await self._more.wait()

    def _tell(self, event: Event) -> None:
        # What it tells of goes on to change.
        self.events.append(deepcopy(event))
        self._more.set()
        self._more = asyncio.Event()


def _finish(unfolding: Unfolding, agent: str, finished: Finished) -> None:
    """Ends a response with what its run came to."""
    answer = finished.answer
    if finished.why in SPENT and not answer.content:
        unfolding.fail(Refused(504, f"{agent} {finished.note}"))
        return
    if answer.content:
        unfolding.add(TextDelta(answer.content))
    for index, call in enumerate(answer.tool_calls):
        unfolding.add(CallDelta(index, call.arguments, call.id, call.name))
    reasons = (reason for reason, why in WHY.items() if why == finished.why)
    unfolding.add(Done(next(reasons, "length"), finished.usage))


def _run(identity: str) -> str:
    """The kept run of a response."""
    return identity.removeprefix(RESPONSE_ID)
