"""One question to an agent elsewhere, and what becomes of it: sent, followed, cancelled."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from a2a.client.errors import A2AClientError
from a2a.types import (
    Artifact,
    CancelTaskRequest,
    GetTaskRequest,
    Part,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
)
from a2a.types import Message as Said
from a2a.utils.errors import A2AError
from google.protobuf.json_format import MessageToDict, ParseError

from kickwheel.agents.kinds.a2a_link import Link
from kickwheel.agents.kinds.a2a_reply import Reply
from kickwheel.core import redact
from kickwheel.core.errors import ModelError

ANSWER_CHARS = 4_000_000
"""Characters of an answer at most."""
TRIES = 5
"""How often a broken connection to a task is made again."""


@asynccontextmanager
async def following(link: Link, say: Callable[[str], None]) -> AsyncGenerator["Followed"]:
    """One question and what becomes of it.

    Args:
        say: told the answer piece by piece.
    """
    followed = Followed(link, say)
    try:
        yield followed
    finally:
        await followed.close()


class Followed:
    """One question to the agent, and what becomes of it."""

    def __init__(self, link: Link, say: Callable[[str], None]) -> None:
        self._link = link
        self._say = say
        self._artifacts: dict[str, Artifact] = {}
        """What the task made so far, by id."""
        self._chars = 0
        """Of the answer so far."""
        self._said: list[str] = []
        self._in_order = True
        """Whether what was said is how the answer begins."""
        self._stream: AsyncIterator[StreamResponse] | None = None
        self._task = Task()
        """The task as far as it is known."""
        self.at_work = False
        """Whether something was sent there that has not ended."""

    @property
    def task(self) -> str:
        """Id of the task there; empty where it is not known yet, or there is none."""
        return self._task.id

    def goes_on_with(self, reply: Reply) -> None:
        """The task is known from the journal, and at work or waiting."""
        self.at_work = True
        if self._task.id != reply.task:
            self._task = Task(id=reply.task, context_id=reply.context)

    async def send(self, text: str, message: str, to: Reply) -> Reply:
        """What comes of a message as soon as it has a task.

        Args:
            message: the message's id.
            to: what it answers; the task is then known.
        Raises:
            ModelError: it was not taken.
        """
        await self.close()
        request = SendMessageRequest(
            message=Said(
                message_id=message,
                role=Role.ROLE_USER,
                parts=[Part(text=text)],
                task_id=to.task,
                context_id=to.context,
            ),
            configuration=SendMessageConfiguration(
                accepted_output_modes=["text/plain", "application/json"]
            ),
        )
        self._task = Task(id=to.task, context_id=to.context)
        try:
            client = await self._link.client()
            self.at_work = True
            self._stream = client.send_message(request)
            async for event in self._stream:
                self._take(event)
                if event.HasField("message"):
                    self.at_work = False
                    return Reply(state="completed", text=_text(event.message.parts))
                if self._task.id:
                    reply = self._reply()
                    # Some begin with the task as it was before our answer.
                    before = reply.asks and bool(to.task) and event.HasField("task")
                    return replace(reply, state="working") if before else reply
        except (A2AError, ValueError, ParseError) as error:
            raise self._link.failed(error) from error
        raise ModelError(f"{self._link.name} took the message and said nothing")

    async def end(self, reply: Reply, poll_s: float) -> Reply:
        """What the task comes to: its end, or a question.

        Raises:
            ModelError: it is not there any more, or cannot be reached.
        """
        broken, pause_s = 0, 0.1
        while True:
            try:
                stream = self._stream or await self._updates(reply.task)
                self._stream = None
                if stream is not None:
                    async for event in stream:
                        self._take(event)
                        broken = 0
                        if self._reply().state != "working":
                            return self._reply()
                now = await (await self._link.client()).get_task(GetTaskRequest(id=reply.task))
                self._take(StreamResponse(task=now))
                if self._reply().state != "working":
                    return self._reply()
            except A2AClientError as error:
                broken += 1
                if broken > TRIES:
                    raise self._link.failed(error) from error
                pause_s = max(pause_s, 0.5)
            except (A2AError, ValueError, ParseError) as error:
                raise self._link.failed(error) from error
            await asyncio.sleep(pause_s)
            pause_s = min(poll_s, 2 * pause_s)

    async def cancel(self, limit_s: float) -> str | None:
        """Cancels the task, and says why it may go on all the same; `None` where it ended.

        Args:
            limit_s: seconds that its answer may take.
        """
        name = self._link.name
        if not self.task:
            return f"{name} may be at work: it had not named its task yet"
        why = f"no answer within {limit_s:g} s"
        try:
            async with asyncio.timeout(limit_s):
                client = await self._link.client()
                task = await client.cancel_task(CancelTaskRequest(id=self.task))
            state = _STATES.get(task.status.state, "working")
            if state not in ("working", "input-required", "auth-required"):
                return None
            why = f"it is {state}"
        except TimeoutError:
            pass
        except (A2AError, ModelError, ValueError, ParseError) as error:
            why = redact.text(str(error) or type(error).__name__)[:1000]
        return f"{name} may go on with task {self.task}: {why}"

    def say_rest(self, text: str) -> None:
        """Says what of the answer was not said yet."""
        said = "".join(self._said)
        if text.startswith(said):
            self._say(text[len(said) :])
        self._said = [text]

    async def close(self) -> None:
        """Reads no further."""
        stream, self._stream = self._stream, None
        close = getattr(stream, "aclose", None)
        if close is not None:
            with suppress(A2AError):
                await close()

    async def _updates(self, task: str) -> AsyncIterator[StreamResponse] | None:
        """What happens in the task from now on; `None` where it cannot be streamed."""
        card = await self._link.card()
        if not (self._link.streaming and card.capabilities.streaming):
            return None
        return _subscribed((await self._link.client()).subscribe(SubscribeToTaskRequest(id=task)))

    def _take(self, event: StreamResponse) -> None:
        task = self._task
        if event.HasField("task"):
            task.CopyFrom(event.task)
            self._artifacts = {artifact.artifact_id: artifact for artifact in task.artifacts}
            self._chars = sum(len(_text(artifact.parts, "")) for artifact in task.artifacts)
        elif event.HasField("status_update"):
            task.id, task.context_id = event.status_update.task_id, event.status_update.context_id
            task.status.CopyFrom(event.status_update.status)
        elif event.HasField("artifact_update"):
            self._hear(event.artifact_update)
        self.at_work = not self._reply().ended
        if self._chars > ANSWER_CHARS:
            raise ModelError(f"{self._link.name} answers more than {ANSWER_CHARS} characters")

    def _hear(self, update: TaskArtifactUpdateEvent) -> None:
        """Keeps a piece of the answer; says what is new in it, where it comes behind all else.

        The pieces are never put together here: there may be very many.
        """
        task, name = self._task, update.artifact.artifact_id
        task.id, task.context_id = update.task_id, update.context_id
        new, more = _text(update.artifact.parts, ""), None
        at_end = bool(task.artifacts) and task.artifacts[-1].artifact_id == name
        old = self._artifacts.get(name)
        if old is None:
            more = f"\n\n{new}" if task.artifacts else new
            task.artifacts.append(update.artifact)
            self._artifacts[name] = task.artifacts[-1]
            self._chars += len(new)
        elif update.append:
            old.parts.extend(update.artifact.parts)
            self._chars += len(new)
            more = new if at_end else None
        else:
            before = _text(old.parts, "")
            old.CopyFrom(update.artifact)
            self._chars += len(new) - len(before)
            more = new[len(before) :] if at_end and new.startswith(before) else None
        self._in_order = self._in_order and more is not None
        if self._in_order and more:
            self._said.append(more)
            self._say(more)

    def _reply(self) -> Reply:
        task = self._task
        state: Any = _STATES.get(task.status.state, "working")
        said = _text(task.status.message.parts)
        text = (_answer(task) or said) if state == "completed" else said
        return Reply(state=state, task=task.id, context=task.context_id, text=text[:ANSWER_CHARS])


_STATES = {
    TaskState.TASK_STATE_INPUT_REQUIRED: "input-required",
    TaskState.TASK_STATE_COMPLETED: "completed",
    TaskState.TASK_STATE_FAILED: "failed",
    TaskState.TASK_STATE_CANCELED: "canceled",
    TaskState.TASK_STATE_REJECTED: "rejected",
    TaskState.TASK_STATE_AUTH_REQUIRED: "auth-required",
}


async def _subscribed(stream: AsyncIterator[StreamResponse]) -> AsyncGenerator[StreamResponse]:
    """The updates; none where the task has ended meanwhile, or cannot be subscribed to."""
    try:
        async for event in stream:
            yield event
    except A2AClientError:
        raise
    except A2AError:
        return


def _answer(task: Task) -> str:
    """All artifacts as one text."""
    return "\n\n".join(_text(artifact.parts, "") for artifact in task.artifacts)


def _text(parts: Iterable[Part], between: str = "\n\n") -> str:
    """The parts as one text: data as JSON, files by their names."""
    return between.join(_read(part) for part in parts)


def _read(part: Part) -> str:
    kind = part.WhichOneof("content")
    if kind == "text":
        return part.text
    if kind == "data":
        return json.dumps(MessageToDict(part.data), ensure_ascii=False)
    return f"[file {part.filename or part.url or part.media_type}]"
