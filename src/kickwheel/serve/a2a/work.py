"""Tasks at work: each is a kept run of an agent, and everybody who follows it is told.

The work belongs to nobody's request: a client that goes away leaves it running, and whoever comes
back follows it from where it is. A program that was killed leaves the run in the journal; the
keeper goes on with it, and here the task follows.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Self

from a2a.types import (
    Artifact,
    Message,
    Part,
    Role,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
)
from pydantic import SecretStr

from kickwheel.agents.events import SPENT, Finished, Text
from kickwheel.agents.work import Worker
from kickwheel.app import App
from kickwheel.core.errors import KickwheelError, RunLost, StoreError, UsageError
from kickwheel.core.identity import fresh
from kickwheel.core.journal import KeptRun, Question
from kickwheel.models.caller import Caller, acting_for
from kickwheel.models.chat import ChatRequest
from kickwheel.records import wire
from kickwheel.serve.a2a.parts import TEXT, answer
from kickwheel.serve.a2a.push import Notifier, told
from kickwheel.serve.a2a.tasks import KEPT_S, Kept, Tasks
from kickwheel.serve.errors import refusal

Update = Task | TaskStatusUpdateEvent | TaskArtifactUpdateEvent

ANSWER = "answer"
"""Id of the artifact that is the agent's answer."""
LOOK_S = 2.0
"""How often open tasks are looked for that nobody here follows."""
BEGIN_S = 10.0
"""After which a task without a run counts as left by a program that was killed."""
STOP_S = 5.0
"""How long a cancelled run may take to end."""

_log = logging.getLogger(__name__)


class Works:
    """The tasks that go on here; an async context manager."""

    def __init__(
        self, app: App, agents: Mapping[str, Worker], tasks: Tasks, push: Notifier
    ) -> None:
        self._app = app
        self._agents = agents
        self._tasks = tasks
        self._push = push
        self._live: dict[str, _Work] = {}
        self._looking: asyncio.Task[None] | None = None
        self._forgotten = 0.0

    async def __aenter__(self) -> Self:
        self._looking = asyncio.create_task(self._look())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Work goes on until the keeper, who is closed later, leaves its runs for the next program.
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking

    def start(self, kept: Kept, token: SecretStr | None = None) -> None:
        """Goes on with the task, from its beginning or from where its run is.

        Args:
            token: the caller's own, for tools that work in their name; it is not kept.
        """
        work = self._live.get(kept.task.id)
        if work is None:
            work = self._live[kept.task.id] = _Work(kept)
        if work.job is None:
            work.job = asyncio.create_task(self._work(work, token))

    async def now(self, kept: Kept) -> Kept:
        """The task as it stands now."""
        work = self._live.get(kept.task.id)
        if work is not None and work.job is not None:
            return work.shown()
        if not kept.ended:
            await self._settle(kept)
        return kept

    @asynccontextmanager
    async def followed(self, kept: Kept) -> AsyncGenerator["asyncio.Queue[Update | None]"]:
        """What happens in the task from now on, its state first; `None` comes at the end."""
        work = self._live.get(kept.task.id)
        if work is None:
            work = self._live[kept.task.id] = _Work(kept)
        queue: asyncio.Queue[Update | None] = asyncio.Queue()
        # Held from here on; what is told until it is looked at stands in what is seen then.
        work.followers.add(queue)
        try:
            shown = await self.now(work.kept)
            while not queue.empty():
                queue.get_nowait()
            before = Task()
            before.CopyFrom(shown.task)
            queue.put_nowait(before)
            if shown.ended:
                queue.put_nowait(None)
            yield queue
        finally:
            work.followers.discard(queue)
            self._drop(work)

    async def answer(self, kept: Kept, message: Message, text: str) -> None:
        """Gives the answer that the task waits for; `start` goes on with it.

        Several questions are answered one by one, the oldest first.

        Raises:
            UsageError: this is none of the choices, or somebody else was faster.
        """
        questions = await self._app.keeper.questions(kept.task.id)
        if not questions:
            raise UsageError(f"task {kept.task.id} was answered by somebody else meanwhile")
        await self._app.keeper.answer(kept.task.id, text, questions[0].path)
        work = self._live.get(kept.task.id)
        task = kept.task if work is None else work.kept.task
        if task.status.HasField("message"):
            task.history.append(task.status.message)
        task.history.append(message)
        task.status.CopyFrom(TaskStatus(state=TaskState.TASK_STATE_SUBMITTED))
        task.status.timestamp.GetCurrentTime()

    async def cancel(self, kept: Kept) -> None:
        """Ends the task's run, wherever it goes on."""
        work = self._live.get(kept.task.id)
        stopped = await self._app.keeper.cancel(kept.task.id)
        job = work.job if work is not None else None
        if job is not None:
            if not stopped:
                job.cancel()
            await asyncio.wait({job}, timeout=STOP_S)
        elif not await self._settle(kept) and not stopped:
            await self._stands(kept, work, TaskState.TASK_STATE_CANCELED)

    async def _look(self) -> None:
        while True:
            try:
                since = time.time() - BEGIN_S
                worker = self._app.keeper.worker
                for kept in await asyncio.to_thread(self._tasks.moving, worker, since):
                    if kept.agent in self._agents:
                        await self._take_up(kept)
                await self._catch_up()
                if time.monotonic() - self._forgotten > 3600 or not self._forgotten:
                    self._forgotten = time.monotonic()
                    await asyncio.to_thread(self._tasks.forget, time.time() - KEPT_S)
            except KickwheelError as error:
                _log.warning("%s", error)
            await asyncio.sleep(LOOK_S)

    async def _take_up(self, kept: Kept) -> None:
        work = self._live.get(kept.task.id)
        if work is not None and work.job is not None:
            return
        if not await self._settle(kept):
            self.start(kept)

    async def _catch_up(self) -> None:
        """Tells who follows a task that goes on in another process how it stands now."""
        for work in list(self._live.values()):
            was = work.kept
            if work.job is not None or not work.followers:
                continue
            who = Caller(user=was.asker, tenant=was.tenant)
            now = await asyncio.to_thread(self._tasks.find, was.task.id, was.agent, who)
            if now is None or now.task.status == was.task.status or work.job is not None:
                continue
            work.kept = now
            for artifact in now.task.artifacts:
                work.tell(_piece(now, artifact, last=True))
            update = TaskStatusUpdateEvent(task_id=now.task.id, context_id=now.task.context_id)
            update.status.CopyFrom(now.task.status)
            work.tell(update)
            if now.task.status.state != TaskState.TASK_STATE_WORKING:
                work.pause()

    async def _work(self, work: "_Work", token: SecretStr | None) -> None:
        kept = work.kept
        agent = self._agents[kept.agent]
        messages = kept.conversation
        who = Caller(user=kept.asker, tenant=kept.tenant, token=token, run=kept.task.id)
        work.said = []
        try:
            await self._stands(kept, work, TaskState.TASK_STATE_WORKING)
            with acting_for(who), self._app.recorder.trace(agent.name, agent.name):
                asked = ChatRequest(messages=messages)
                async with aclosing(agent.run(messages, asked)) as events:
                    async for event in events:
                        if isinstance(event, Text):
                            work.say(event.text)
                        elif isinstance(event, Finished):
                            await self._finished(work, event)
        except RunLost:
            # It was cancelled, or another worker has it; the journal knows.
            await self._settle(kept)
        except asyncio.CancelledError:
            run = await self._app.keeper.find(kept.task.id)
            if run is None or run.state == "cancelled":
                await self._stands(kept, work, TaskState.TASK_STATE_CANCELED)
            raise
        except StoreError as error:
            _log.warning("task %s: %s", kept.task.id, error)
        except Exception as error:
            said = refusal(error, f"task {kept.task.id}").message
            await self._stands(kept, work, TaskState.TASK_STATE_FAILED, said)
        finally:
            work.job = None
            work.pause()
            self._drop(work)

    async def _finished(self, work: "_Work", end: Finished) -> None:
        kept = work.kept
        text = end.answer.content or ""
        if end.why == "waiting":
            work.said = []
            questions = await self._app.keeper.questions(kept.task.id)
            await self._asks(kept, work, questions)
        elif text or end.why == "answered":
            self._answered(kept, work, text)
            note = f"{kept.agent} {end.note}" if end.note else ""
            await self._stands(kept, work, TaskState.TASK_STATE_COMPLETED, note)
        else:
            note = end.note if end.why in SPENT else f"gave no answer: {end.why}"
            await self._stands(kept, work, TaskState.TASK_STATE_FAILED, f"{kept.agent} {note}")

    def _answered(self, kept: Kept, work: "_Work | None", text: str) -> None:
        formed = self._agents[kept.agent].formed
        artifact = Artifact(artifact_id=ANSWER, name=ANSWER, parts=[answer(text, formed=formed)])
        del kept.task.artifacts[:]
        kept.task.artifacts.append(artifact)
        if work is None:
            return
        if formed or "".join(work.said) != text:
            work.tell(_piece(kept, artifact, last=True))
        work.said = []

    async def _settle(self, kept: Kept) -> bool:
        """Brings the task to where the journal has its run; whether it ended, or waits."""
        work = self._live.get(kept.task.id)
        run = await self._app.keeper.find(kept.task.id)
        if run is None:
            return False
        if run.state == "waiting":
            questions = await self._app.keeper.questions(run.id)
            if questions and kept.task.status.state != TaskState.TASK_STATE_INPUT_REQUIRED:
                await self._asks(kept, work, questions)
            return bool(questions)
        if run.state == "running":
            return False
        await self._as_run(kept, work, run)
        return True

    async def _as_run(self, kept: Kept, work: "_Work | None", run: KeptRun) -> None:
        if run.state == "cancelled":
            await self._stands(kept, work, TaskState.TASK_STATE_CANCELED)
        elif run.state == "failed" or run.result is None:
            # The error itself may tell what is nobody's business; the log has it.
            said = f"{kept.agent} failed in the middle of its work"
            await self._stands(kept, work, TaskState.TASK_STATE_FAILED, said)
        else:
            await self._finished(work or _Work(kept), wire.from_bytes(run.result, Finished))

    async def _asks(self, kept: Kept, work: "_Work | None", questions: Sequence[Question]) -> None:
        parts = [Part(text=_asked(question), media_type=TEXT) for question in questions]
        await self._stands(kept, work, TaskState.TASK_STATE_INPUT_REQUIRED, parts=parts)

    async def _stands(
        self,
        kept: Kept,
        work: "_Work | None",
        state: TaskState,
        text: str = "",
        *,
        parts: Sequence[Part] = (),
    ) -> None:
        """The task stands so from now on: kept, told to who follows it, and to who gave a URL."""
        task = kept.task
        if task.status.state == state and state == TaskState.TASK_STATE_WORKING:
            return
        if task.status.HasField("message"):
            task.history.append(task.status.message)
        status = TaskStatus(state=state)
        status.timestamp.GetCurrentTime()
        said = list(parts) or ([Part(text=text, media_type=TEXT)] if text else [])
        if said:
            status.message.CopyFrom(
                Message(
                    message_id=fresh(16),
                    role=Role.ROLE_AGENT,
                    parts=said,
                    task_id=task.id,
                    context_id=task.context_id,
                )
            )
        task.status.CopyFrom(status)
        notice = None if state == TaskState.TASK_STATE_WORKING else partial(told, task)
        if not await asyncio.to_thread(self._tasks.save, kept, notice):
            return  # Another process was faster, and tells whoever gave a URL.
        if work is not None:
            update = TaskStatusUpdateEvent(task_id=task.id, context_id=task.context_id)
            update.status.CopyFrom(status)
            work.tell(update)
            if state != TaskState.TASK_STATE_WORKING:
                work.pause()
        self._push.look()

    def _drop(self, work: "_Work") -> None:
        identity = work.kept.task.id
        idle = work.job is None and not work.followers
        if idle and self._live.get(identity) is work:
            del self._live[identity]


class _Work:
    """One task that goes on here, or is followed here."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self.job: asyncio.Task[None] | None = None
        self.followers: set[asyncio.Queue[Update | None]] = set()
        self.said: list[str] = []
        """What the agent has said since it began, or began again."""

    def say(self, text: str) -> None:
        """The agent says a piece of its answer."""
        part = Part(text=text, media_type=TEXT)
        artifact = Artifact(artifact_id=ANSWER, name=ANSWER, parts=[part])
        self.tell(_piece(self.kept, artifact, more=bool(self.said)))
        self.said.append(text)

    def tell(self, update: Update) -> None:
        """Tells all who follow."""
        for queue in self.followers:
            queue.put_nowait(update)

    def pause(self) -> None:
        """Nothing more happens until somebody answers, or at all: who follows is told so."""
        for queue in self.followers:
            queue.put_nowait(None)

    def shown(self) -> Kept:
        """The task with what was said of the answer so far."""
        if not self.said:
            return self.kept
        task = Task()
        task.CopyFrom(self.kept.task)
        part = Part(text="".join(self.said), media_type=TEXT)
        task.artifacts.append(Artifact(artifact_id=ANSWER, name=ANSWER, parts=[part]))
        kept = self.kept
        return Kept(kept.agent, kept.tenant, kept.asker, kept.asked, task)


def _piece(
    kept: Kept, artifact: Artifact, *, more: bool = False, last: bool = False
) -> TaskArtifactUpdateEvent:
    return TaskArtifactUpdateEvent(
        task_id=kept.task.id,
        context_id=kept.task.context_id,
        artifact=artifact,
        append=more,
        last_chunk=last,
    )


def _asked(question: Question) -> str:
    choices = f" ({' / '.join(question.choices)})" if question.choices else ""
    return f"{question.text}{choices}"
