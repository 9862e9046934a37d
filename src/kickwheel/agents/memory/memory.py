"""What every memory can do, and several memories as one."""

from collections.abc import Sequence
from typing import Protocol

from kickwheel.agents.tools import Toolbox
from kickwheel.models.chat import Model
from kickwheel.records import Message, ToolSpec

MARK = "[memory:"
"""How each text begins that a memory put into a conversation: data about earlier turns, neither an
instruction nor anything that anybody said now."""


KEPT = "kept as resource"
"""What stands wherever something was left out that can be read again."""


class Memory(Protocol):
    """What an agent remembers."""

    name: str
    """Its name in the app file."""
    window: bool
    """Whether it cuts conversations to a budget: such a one comes last, behind those that add."""

    @property
    def tools(self) -> Toolbox:
        """What the agent can look things up with: offered beside its own tools once something was
        left out (`leaves_out`), and often none."""

    async def before(
        self,
        messages: Sequence[Message],
        *,
        agent: str = "",
        model: Model | None = None,
        tools: Sequence[ToolSpec] = (),
    ) -> tuple[Message, ...]:
        """What the model is really asked with, in place of the conversation.

        It may be called for every step of a run, with the conversation as it then is, originals
        and all; the messages that it gave before are not to be handed in again.

        Args:
            messages: the conversation up to the question or the last tool's result, with the
                agent's own instructions, oldest first.
            agent: the agent's name, for facts that belong to it.
            model: who will be asked; its own tokenizer counts, where it has one.
            tools: what is offered to the model, which takes room too.
        Raises:
            ModelError: 400, the conversation cannot be made to fit; or the model that summarises
                did not answer.
        """

    async def after(self, messages: Sequence[Message], answer: Message, *, agent: str = "") -> None:
        """Keeps what is worth keeping of a finished run.

        Args:
            messages: the conversation as `before` was given it last, without what memories added.
            answer: what the agent said in the end.
        """


class Together:
    """Several memories as one: what one of them cuts, the others may tell again."""

    window = True

    def __init__(self, memories: Sequence[Memory]) -> None:
        self._adding = [memory for memory in memories if not memory.window]
        self._windows = [memory for memory in memories if memory.window]
        self.name = ", ".join(memory.name for memory in memories)

    @property
    def tools(self) -> Toolbox:
        """The tools of all."""
        return [tool for memory in (*self._adding, *self._windows) for tool in memory.tools]

    async def before(
        self,
        messages: Sequence[Message],
        *,
        agent: str = "",
        model: Model | None = None,
        tools: Sequence[ToolSpec] = (),
    ) -> tuple[Message, ...]:
        """What the model is asked with after each has had its say; see `Memory.before`."""
        sent = await self._cut(tuple(messages), agent, model, tools)
        told = sent
        for memory in self._adding:
            told = await memory.before(told, agent=agent, model=model, tools=tools)
        added = [message for message in told if message not in sent]
        if not added:
            return sent
        # They take room, so the window has the last word.
        last = max(i for i, m in enumerate(messages) if m.role == "user")
        whole = (*messages[:last], *added, *messages[last:])
        return await self._cut(whole, agent, model, tools)

    async def after(self, messages: Sequence[Message], answer: Message, *, agent: str = "") -> None:
        """Each keeps what it finds worth keeping; see `Memory.after`."""
        for memory in (*self._adding, *self._windows):
            await memory.after(messages, answer, agent=agent)

    async def _cut(
        self,
        messages: tuple[Message, ...],
        agent: str,
        model: Model | None,
        tools: Sequence[ToolSpec],
    ) -> tuple[Message, ...]:
        for window in self._windows:
            messages = await window.before(messages, agent=agent, model=model, tools=tools)
        return messages


def is_recalled(message: Message) -> bool:
    """Whether a memory put the message there, or a tool of a memory gave it."""
    return (message.content or "").lstrip().startswith(MARK)


def leaves_out(messages: Sequence[Message]) -> bool:
    """Whether a memory left something out that its tools can read."""
    return any(KEPT in (message.content or "") for message in messages)
