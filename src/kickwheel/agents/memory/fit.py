"""A conversation made to fit: long results first, then the oldest turns.

What is never lost: system messages, what the user said last, and the last step, whose results the
model has not read yet. Of that step results may be shortened, nothing else.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from kickwheel.agents.memory.cut import Cut, Summary, Trim, chain, trimmed, units
from kickwheel.agents.memory.memory import KEPT, MARK
from kickwheel.core.errors import ModelError
from kickwheel.records import Message

GOAL = 0.6
"""Share of the budget that a new cut leaves filled, so that the next one is many turns away and
an engine's cache is of use until then."""
SUMMARY = 0.15
"""Share of the budget that a summary may take."""
TRIMS = ((600, 300), (150, 50), (0, 0))
"""Characters of head and tail that are left of a result; the shorter ones only for the last step,
where nothing else helps."""

Count = Callable[[Sequence[Message]], Awaitable[Sequence[int]]]
"""Tokens of each message."""
Summarise = Callable[[Sequence[Message], int], Awaitable[str]]
"""What stands for messages, in at most so many tokens; empty where there is nothing to say."""


class TooLong(ModelError):
    """What must not be dropped is longer than the budget."""

    def __init__(self, tokens: int, budget_tokens: int) -> None:
        super().__init__(
            f"the instructions, the last question and the last results alone have {tokens:,} "
            f"tokens, and beside the schemas of the tools the budget leaves {budget_tokens:,} for "
            "them. Set a larger budget_tokens, or offer fewer tools",
            status=400,
        )
        self.tokens = tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A conversation that fits."""

    messages: tuple[Message, ...]
    tokens: int
    cut: Cut
    changed: bool
    """Whether the cut is a new one."""


async def fit(
    messages: Sequence[Message],
    budget_tokens: int,
    count: Count,
    *,
    summarise: Summarise | None = None,
    cut: Cut | None = None,
    names: Sequence[str] | None = None,
) -> Window:
    """The conversation within the budget.

    Args:
        messages: oldest first, nothing left out.
        budget_tokens: tokens of all messages together at most.
        summarise: what stands for dropped turns; without it they leave a note.
        cut: the cut that was made of the beginning of this conversation; it is laid over it again,
            and a new one is made only if that no longer fits.
        names: `chain(messages)`, where it is known.
    Raises:
        TooLong: what must not be dropped does not fit.
    """
    cut = cut or Cut()
    sizes = list(await count(messages))
    if cut == Cut() and sum(sizes) <= budget_tokens:
        return Window(messages=tuple(messages), tokens=sum(sizes), cut=cut, changed=False)
    made = cut.applied(messages)
    tokens = sum(await count(made))
    if tokens <= budget_tokens:
        return Window(messages=made, tokens=tokens, cut=cut, changed=False)
    cutting = _Cutting(messages, sizes, budget_tokens, count, names or chain(messages), cut)
    await cutting.trim(TRIMS[0], last=False)
    if cutting.tokens > cutting.goal:
        await cutting.drop(summarise)
    for ends in TRIMS:
        if cutting.tokens > budget_tokens:
            await cutting.trim(ends, last=True)
    if cutting.tokens > budget_tokens:
        cutting.forget_summaries()
    if cutting.tokens > budget_tokens:
        raise TooLong(cutting.tokens, budget_tokens)
    made = cutting.cut.applied(messages)
    return Window(messages=made, tokens=cutting.tokens, cut=cutting.cut, changed=True)


class _Cutting:
    """A cut while it is being made."""

    def __init__(
        self,
        messages: Sequence[Message],
        sizes: list[int],
        budget: int,
        count: Count,
        names: Sequence[str],
        cut: Cut,
    ) -> None:
        self.messages, self.sizes, self.budget, self.count = messages, sizes, budget, count
        self.names = names
        self.goal = int(budget * GOAL)
        self.cut = cut
        self._old = cut
        self._trimmed: dict[int, int] = {}
        """Tokens of the results that were trimmed, by position."""
        self._summed = 0
        """Tokens of the summaries."""
        self._units = units(messages)
        self._last_user = max((i for i, m in enumerate(messages) if m.role == "user"), default=-1)

    @property
    def tokens(self) -> int:
        """Tokens of what is left."""
        dropped = set(self.cut.dropped)
        left = (i for i in range(len(self.messages)) if i not in dropped)
        return self._summed + sum(self._trimmed.get(i, self.sizes[i]) for i in left)

    async def trim(self, ends: tuple[int, int], *, last: bool) -> None:
        """Trims results, oldest first, until there is room; `last`: those of the last step."""
        await self._measure()
        step = self._units[-1] if self._units else range(0)
        dropped = set(self.cut.dropped)
        places = [
            i
            for i, message in enumerate(self.messages)
            if message.role == "tool" and i not in dropped and (i in step) == last
        ]
        trims = [
            Trim(at=i, head=ends[0], tail=ends[1], resource=f"result-{self.names[i]}")
            for i in places
        ]
        shorter = await self.count([trimmed(self.messages[t.at], t) for t in trims])
        limit = self.budget if last else self.goal
        kept = {trim.at: trim for trim in self.cut.trims}
        for trim, size in zip(trims, shorter, strict=True):
            if self.tokens <= limit:
                break
            if size < self._trimmed.get(trim.at, self.sizes[trim.at]):
                kept[trim.at] = trim
                self._trimmed[trim.at] = size
        self.cut = replace(self.cut, trims=tuple(kept[i] for i in sorted(kept)))

    async def drop(self, summarise: Summarise | None) -> None:
        """Drops pieces, oldest first, until there is room, and puts summaries in their place."""
        room = int(self.budget * SUMMARY)
        dropped = set(self.cut.dropped)
        self._summed = 0
        for piece in self._units[:-1]:
            if self.tokens + room <= self.goal:
                break
            if not self._stays(piece):
                dropped.update(piece)
                self.cut = replace(self.cut, dropped=tuple(sorted(dropped)))
        trims = tuple(trim for trim in self.cut.trims if trim.at not in dropped)
        self.cut = replace(self.cut, trims=trims)
        await self._summarise(summarise, room)

    def forget_summaries(self) -> None:
        """Leaves the summaries out: there is no room for them."""
        self.cut = replace(self.cut, summaries=())
        self._summed = 0

    def _stays(self, piece: range) -> bool:
        return self._last_user in piece or any(
            self.messages[i].role in ("system", "developer") for i in piece
        )

    async def _summarise(self, summarise: Summarise | None, room: int) -> None:
        """A summary of what was dropped before the last question, and one of what came after."""
        sides = (
            [i for i in self.cut.dropped if i < self._last_user],
            [i for i in self.cut.dropped if i > self._last_user],
        )
        share = room // max(1, sum(map(bool, sides)))
        summaries = []
        for side in filter(None, sides):
            note = (
                f"{MARK} {len(side)} messages are left out here, {KEPT} "
                f"turns-{self.names[side[-1]]}; look things up in them with the tool recall"
            )
            said = ""
            if summarise is not None and share > 0:
                said = (await summarise(self._source(side), share)).strip()
            text = f"{note}. Summary:\n{said}]" if said else f"{note}]"
            summaries.append(Summary(at=side[0], text=text))
        self.cut = replace(self.cut, summaries=tuple(summaries))
        await self._measure()

    def _source(self, side: Sequence[int]) -> list[Message]:
        """What a summary is made of: the one before, and what was dropped since."""
        seen = set(self._old.dropped)
        told = [s.text for s in self._old.summaries if s.at in side]
        return [
            *(Message(role="user", content=text) for text in told),
            *(self.messages[i] for i in side if i not in seen),
        ]

    async def _measure(self) -> None:
        """Counts what the cut put into the conversation."""
        trims = self.cut.trims
        counted = await self.count([trimmed(self.messages[t.at], t) for t in trims])
        self._trimmed = {trim.at: size for trim, size in zip(trims, counted, strict=True)}
        told = [Message(role="user", content=s.text) for s in self.cut.summaries]
        self._summed = sum(await self.count(told))
