"""`kind: a2a`: an agent that answers elsewhere, over the A2A protocol, as one of ours.

    the question ─▶ sent, once ─▶ its task, kept ─▶ followed to its end ─▶ the answer
                                      │  ▲
                 a person is asked ◀──┘  └── their answer is sent

What was sent is not sent again: a run that goes on after its program was killed asks the task that
it has the id of. A run that is cancelled, or whose time is over, cancels the task.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from kickwheel.agents.caller import idempotency_key
from kickwheel.agents.durable import person, steps, told
from kickwheel.agents.events import Finished
from kickwheel.agents.kinds.a2a_reply import Reply
from kickwheel.agents.run import AgentPart, Run
from kickwheel.agents.tools import Effects
from kickwheel.agents.work import Worker
from kickwheel.core.config import key_from
from kickwheel.core.errors import MissingExtra, ModelError, UsageError
from kickwheel.core.identity import fresh
from kickwheel.core.plugins import Context
from kickwheel.records import Message, genai
from kickwheel.trace.record import span

if TYPE_CHECKING:
    from kickwheel.agents.kinds.a2a_followed import Followed
    from kickwheel.agents.kinds.a2a_link import Link

CANCEL_S = 1.0
"""Seconds that the end of a cancelled run waits until the task elsewhere is cancelled, too."""
GREET_S = 5.0
"""Seconds that the start of the app waits for a card; after that the first question reads it."""

_log = logging.getLogger(__name__)


class A2a(AgentPart):
    """An agent that answers elsewhere, over the A2A protocol."""

    url: str
    """Where it answers; its card lies below, at `/.well-known/agent-card.json`."""
    token: SecretStr | None = None
    """What is shown as `Authorization: Bearer …`; write `${NAME}` for the value of a variable."""
    headers: Mapping[str, SecretStr] = Field(default_factory=dict)
    """Further headers of each request."""
    hosts: tuple[str, ...] = ()
    """Further hosts that its card may send us to; by default only that of `url`, since what is
    asked and the token go there."""
    streaming: bool = True
    """Whether its answer is read as it comes, where it can do that."""
    effects: Effects = "once"
    """What a question to it does to the world. `once`: killed while it was on its way, a person is
    asked before it is sent again. `repeatable`: it is sent again under the same message id, by
    which the other side may know it (kickwheel does)."""
    trusted: bool | None = None
    """Whether its answers may move another agent to calls with effects where the app forbids that
    to untrusted ones."""
    poll_s: Annotated[float, Field(gt=0)] = 2.0
    """Seconds between looks at a task that is not streamed, at most."""

    @field_validator("url")
    @classmethod
    def _a_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("a URL begins with http:// or https:// and names a host")
        if parts.username or parts.password:
            raise ValueError("put no password into the URL; token and headers are for that")
        return url.rstrip("/")

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["Remote"]:
        """The agent; its card is read at once if it can be, else with the first question."""
        try:
            from kickwheel.agents.kinds.a2a_link import Link
        except ImportError as error:
            raise MissingExtra("agents that answer over A2A", "a2a") from error
        headers = {
            name: _value(value, f"agents.{context.name}.headers.{name}")
            for name, value in self.headers.items()
        }
        if self.token is not None:
            token = _value(self.token, f"agents.{context.name}.token")
            headers["authorization"] = f"Bearer {token}"
        async with Link(
            context.name,
            self.url,
            headers,
            hosts=self.hosts,
            streaming=self.streaming,
            timeout_s=self.timeout_s,
        ) as link:
            agent = Remote(context.name, self, link)
            if not context.dry:
                await agent.greet()
            yield agent


class Remote(Worker):
    """An agent elsewhere."""

    words_only = True

    def __init__(self, name: str, part: A2a, link: "Link") -> None:
        super().__init__(name, part)
        self.trusted = part.trusted
        self._part = part
        self._link = link

    async def greet(self) -> None:
        """Reads the card, which also says what the agent is good at where the app file does not."""
        try:
            async with asyncio.timeout(GREET_S):
                card = await self._link.card()
        except (ModelError, TimeoutError) as error:
            _log.warning("agents.%s: no card yet: %s", self.name, error or "it took too long")
        else:
            self.description = self.description or card.description

    async def work(self, run: Run) -> Finished:
        """Sends the question, and follows what becomes of it.

        Raises:
            ModelError: it failed there.
        """
        from kickwheel.agents.kinds.a2a_followed import following

        async with following(self._link, run.say) as followed:
            try:
                reply = await self._end(followed, run)
            except asyncio.CancelledError:
                if followed.at_work and not steps().goes_on:
                    await self._cancel(followed)
                raise
            if not reply.answered:
                raise ModelError(f"{self.name} {reply.why}", status=502, again=False)
            followed.say_rest(reply.text)
        return run.ended("answered", Message(role="assistant", content=reply.text))

    async def _end(self, followed: "Followed", run: Run) -> Reply:
        reply = await self._send(followed, run, _asked(run.asked.messages), Reply())
        while not reply.ended:
            followed.goes_on_with(reply)
            if reply.asks:
                answer = await person(reply.text)
                reply = await self._send(followed, run, answer, reply)
            else:
                reply = await steps().step(
                    f"a2a wait {self.name}",
                    reply.task,
                    partial(followed.end, reply, self._part.poll_s),
                    Reply,
                )
        return reply

    async def _cancel(self, followed: "Followed") -> None:
        """Cancels what is at work there for nobody; what cannot be is named in the trace."""
        with span("step", f"a2a cancel {self.name}") as cancelling:
            cancelling.attributes[genai.REMOTE_TASK] = followed.task
            cancelling.error = await followed.cancel(CANCEL_S)

    async def _send(self, followed: "Followed", run: Run, text: str, to: Reply) -> Reply:
        """What the agent says to it at first: that it is at work, most often."""

        async def do() -> Reply:
            # The same when it is sent again, so that the other side may know it.
            key = idempotency_key() or fresh(16)
            return await followed.send(text, key, to)

        said = told(self.name, lambda words: Reply(state="completed", text=words))

        arguments = (text, to.task)
        name = f"a2a {self.name}"
        effects = self._part.effects
        return await steps().step(name, arguments, do, Reply, effects=effects, said=said)


def _asked(messages: tuple[Message, ...]) -> str:
    """The question as one text, which is all that the other side hears of the conversation."""
    turns = [m for m in messages if m.role in ("user", "assistant") and m.content]
    if len(turns) == 1:
        return turns[0].content or ""
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in turns)


def _value(written: SecretStr, where: str) -> str:
    value = key_from(written.get_secret_value())
    if value is None:
        raise UsageError(f"{where}: {written.get_secret_value() or 'it'} is not set, or empty")
    return value
