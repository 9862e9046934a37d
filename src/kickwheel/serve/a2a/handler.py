"""The protocol's methods for one agent."""

import asyncio
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncGenerator

from a2a.server.context import ServerCallContext
from a2a.server.events import Event
from a2a.server.request_handlers.request_handler import RequestHandler, validate_request_params
from a2a.types import (
    AgentCard,
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTaskPushNotificationConfigsResponse,
    ListTasksRequest,
    ListTasksResponse,
    Message,
    SendMessageRequest,
    SubscribeToTaskRequest,
    Task,
    TaskPushNotificationConfig,
    TaskState,
    TaskStatus,
)
from a2a.utils.errors import (
    ExtendedAgentCardNotConfiguredError,
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from a2a.utils.task import apply_history_length, validate_history_length, validate_page_size

from kickwheel.agents.work import Worker
from kickwheel.core.errors import UsageError
from kickwheel.core.identity import fresh
from kickwheel.models.caller import Caller
from kickwheel.records import Message as Said
from kickwheel.records import wire
from kickwheel.serve.a2a.parts import JSON, TEXT, accepts, said, texts
from kickwheel.serve.a2a.push import Notifier, named
from kickwheel.serve.a2a.tasks import Kept, Tasks
from kickwheel.serve.a2a.work import Update, Works

PAGE = 50
PUSHES = 16
"""URLs that one task may tell at most."""


class Handler(RequestHandler):
    """What the SDK's routes ask; every task belongs to the caller that made it."""

    def __init__(
        self, name: str, agent: Worker, tasks: Tasks, works: Works, push: Notifier
    ) -> None:
        self._name = name
        self._agent = agent
        self._tasks = tasks
        self._works = works
        self._push = push

    @validate_request_params
    async def on_message_send(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> Task | Message:
        """The task once it ended or waits for an answer, or at once where that is wished."""
        validate_history_length(params.configuration)
        kept, fresh_work = await self._sent(params, context)
        async with self._works.followed(kept) as events:
            if fresh_work:
                self._works.start(kept, _who(context).token)
            before = await events.get()
            goes_on = fresh_work or not _waits(before)
            if goes_on and not params.configuration.return_immediately:
                while await events.get() is not None:
                    pass
            return apply_history_length(
                (await self._works.now(await self._mine(kept.task.id, context))).task,
                params.configuration,
            )

    async def on_message_send_stream(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Event]:
        """The task, and what happens in it until it ended or waits for an answer."""
        kept, fresh_work = await self._sent(params, context)
        async with self._works.followed(kept) as events:
            if fresh_work:
                self._works.start(kept, _who(context).token)
            event = await events.get()
            while event is not None:
                yield event
                if not fresh_work and _waits(event):
                    return
                event = await events.get()

    @validate_request_params
    async def on_get_task(self, params: GetTaskRequest, context: ServerCallContext) -> Task | None:
        """The task as it stands now."""
        validate_history_length(params)
        kept = await self._works.now(await self._mine(params.id, context))
        return apply_history_length(kept.task, params)

    @validate_request_params
    async def on_list_tasks(
        self, params: ListTasksRequest, context: ServerCallContext
    ) -> ListTasksResponse:
        """The caller's tasks, what changed last first."""
        validate_history_length(params)
        if params.HasField("page_size"):
            validate_page_size(params.page_size)
        size = params.page_size or PAGE
        after = params.status_timestamp_after.ToMilliseconds() / 1000
        found, total = await asyncio.to_thread(
            self._tasks.page,
            self._name,
            _who(context),
            context=params.context_id,
            state=TaskState.Name(params.status) if params.status else "",
            after=max(0.0, after),
            before=_place(params.page_token) if params.page_token else None,
            limit=size + 1,
        )
        answer = ListTasksResponse(page_size=size, total_size=total)
        for _, kept in found[:size]:
            task = apply_history_length((await self._works.now(kept)).task, params)
            shown = answer.tasks.add()
            shown.CopyFrom(task)
            if not params.include_artifacts:
                shown.ClearField("artifacts")
        if len(found) > size:
            answer.next_page_token = _token(found[size - 1])
        return answer

    @validate_request_params
    async def on_cancel_task(
        self, params: CancelTaskRequest, context: ServerCallContext
    ) -> Task | None:
        """Ends the task's run."""
        kept = await self._works.now(await self._mine(params.id, context))
        if kept.ended:
            state = TaskState.Name(kept.task.status.state)
            raise TaskNotCancelableError(f"task {params.id} has ended already: {state}")
        await self._works.cancel(kept)
        return (await self._works.now(await self._mine(params.id, context))).task

    @validate_request_params
    async def on_subscribe_to_task(
        self, params: SubscribeToTaskRequest, context: ServerCallContext
    ) -> AsyncGenerator[Event]:
        """The task, and what happens in it from now on."""
        kept = await self._works.now(await self._mine(params.id, context))
        if kept.ended:
            raise UnsupportedOperationError(
                f"task {params.id} has ended; nothing more happens in it. Get it instead."
            )
        async with self._works.followed(kept) as events:
            while (event := await events.get()) is not None:
                yield event

    @validate_request_params
    async def on_create_task_push_notification_config(
        self, params: TaskPushNotificationConfig, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        """Keeps who is told of the task."""
        await self._mine(params.task_id, context)
        return await self._told(params)

    @validate_request_params
    async def on_get_task_push_notification_config(
        self, params: GetTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        """Who is told of the task, one of them."""
        await self._mine(params.task_id, context)
        for config in await asyncio.to_thread(self._tasks.pushes, params.task_id):
            if config.id == params.id:
                return config
        raise TaskNotFoundError(f"task {params.task_id} tells nobody under the id {params.id}")

    @validate_request_params
    async def on_list_task_push_notification_configs(
        self, params: ListTaskPushNotificationConfigsRequest, context: ServerCallContext
    ) -> ListTaskPushNotificationConfigsResponse:
        """Who is told of the task, all of them."""
        await self._mine(params.task_id, context)
        found = await asyncio.to_thread(self._tasks.pushes, params.task_id)
        return ListTaskPushNotificationConfigsResponse(configs=found)

    @validate_request_params
    async def on_delete_task_push_notification_config(
        self, params: DeleteTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> None:
        """Tells them no more."""
        await self._mine(params.task_id, context)
        await asyncio.to_thread(self._tasks.drop_push, params.task_id, params.id)

    async def on_get_extended_agent_card(
        self, params: GetExtendedAgentCardRequest, context: ServerCallContext
    ) -> AgentCard:
        """There is one card only."""
        raise ExtendedAgentCardNotConfiguredError("the public card says all that there is to say")

    async def _mine(self, identity: str, context: ServerCallContext) -> Kept:
        kept = await asyncio.to_thread(self._tasks.find, identity, self._name, _who(context))
        if kept is None:
            raise TaskNotFoundError(f"no task {identity} of yours at the agent {self._name}")
        return kept

    async def _sent(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> tuple[Kept, bool]:
        """The task that the message begins or goes on with, and whether work is to be started.

        The same message sent again, as by a client that did not hear the answer, leads to the task
        that it began.
        """
        message, config = params.message, params.configuration
        text = said(message)
        accepts(config.accepted_output_modes, JSON if self._agent.formed else TEXT)
        wants_push = config.HasField("task_push_notification_config")
        if wants_push:
            self._push.check(config.task_push_notification_config)
        if message.task_id:
            kept = await self._answered(message, text, context)
            again = True
        else:
            kept, again = await self._begun(message, text, context)
        if wants_push:
            config.task_push_notification_config.task_id = kept.task.id
            await self._told(config.task_push_notification_config)
        return kept, again

    async def _begun(
        self, message: Message, text: str, context: ServerCallContext
    ) -> tuple[Kept, bool]:
        who = _who(context)
        place = message.context_id or fresh(16)
        asked = (who.tenant, who.user, self._name, message.message_id, message.context_id, text)
        identity = wire.digest(asked)[:32]
        before: list[Said] = []
        if message.context_id:
            found = await asyncio.to_thread(self._tasks.of_context, place, self._name, who)
            for one in found:
                if one.task.id != identity:
                    before += _conversation(one)
        task = Task(id=identity, context_id=place)
        task.status.CopyFrom(TaskStatus(state=TaskState.TASK_STATE_SUBMITTED))
        task.status.timestamp.GetCurrentTime()
        task.history.append(message)
        task.history[0].task_id, task.history[0].context_id = identity, place
        conversation = (*before, Said(role="user", content=text))
        kept = Kept(self._name, who.tenant, who.user, wire.to_bytes(conversation), task)
        if await asyncio.to_thread(self._tasks.add, kept):
            return kept, True
        return await self._works.now(await self._mine(identity, context)), False

    async def _answered(self, message: Message, text: str, context: ServerCallContext) -> Kept:
        kept = await self._works.now(await self._mine(message.task_id, context))
        task = kept.task
        if message.context_id and message.context_id != task.context_id:
            raise InvalidParamsError(f"task {task.id} belongs to the context {task.context_id}")
        if kept.ended:
            raise UnsupportedOperationError(
                f"task {task.id} has ended. Send the message without taskId and with the contextId "
                f"{task.context_id}, to go on with the conversation."
            )
        if not _waits(task):
            raise UnsupportedOperationError(
                f"task {task.id} is at work and asks nothing. Wait for it, or cancel it."
            )
        try:
            await self._works.answer(kept, message, text)
        except UsageError as error:
            raise InvalidParamsError(str(error)) from error
        return kept

    async def _told(self, config: TaskPushNotificationConfig) -> TaskPushNotificationConfig:
        self._push.check(config)
        others = [c.id for c in await asyncio.to_thread(self._tasks.pushes, config.task_id)]
        config.id = named(config, others)
        if config.id not in others and len(others) >= PUSHES:
            raise InvalidParamsError(f"a task tells {PUSHES} URLs at most")
        await asyncio.to_thread(self._tasks.add_push, config)
        return config


def _waits(event: Update | None) -> bool:
    """Whether it is a task that waits for an answer."""
    return isinstance(event, Task) and event.status.state == TaskState.TASK_STATE_INPUT_REQUIRED


def _who(context: ServerCallContext) -> Caller:
    who: Caller = context.state["caller"]
    return who


def _conversation(kept: Kept) -> list[Said]:
    """What an earlier task of the same conversation came to."""
    question = kept.conversation[-1]
    answer = "\n\n".join(texts(artifact.parts) for artifact in kept.task.artifacts)
    return [question, Said(role="assistant", content=answer)] if answer else [question]


def _token(place: tuple[float, Kept]) -> str:
    written = json.dumps([place[0], place[1].task.id])
    return urlsafe_b64encode(written.encode()).decode()


def _place(token: str) -> tuple[float, str]:
    try:
        updated, identity = json.loads(urlsafe_b64decode(token.encode()))
        return float(updated), str(identity)
    except (ValueError, TypeError):
        raise InvalidParamsError("the page token is none that a list ended with") from None
