"""From an exchange to facts: what may be read at all, and what is believed of it.

Read are the turns of users and tools since the last answer. Never read are system messages, what a
memory put into the conversation, and what its tools gave back. And whatever an extractor claims, a
fact is kept only if the turn really says it, if it is no copy of the instructions or of a memory
that was just recalled, and if nothing in it had to be redacted.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from kickwheel.agents.memory.alike import LOOKED_AT, contained, grounded
from kickwheel.agents.memory.extract import Extract
from kickwheel.agents.memory.fact import Candidate, Change, Fact, Scope, Turn
from kickwheel.agents.memory.ledger import Ledger
from kickwheel.agents.memory.memory import is_recalled
from kickwheel.agents.memory.recall import RECALL
from kickwheel.agents.memory.rules import LONGEST
from kickwheel.agents.memory.search import search
from kickwheel.core import redact
from kickwheel.records import Message
from kickwheel.trace.record import current

SHOWN = 10
"""Facts that an extractor is shown of what is known."""
COPIED = 0.8
"""Share of a fact's letters that stands in the instructions or in a recalled memory, from which it
counts as copied from there."""


def read(messages: Sequence[Message]) -> list[Turn]:
    """What users and tools said since the assistant's last answer before the last question."""
    last = max(
        (i for i, m in enumerate(messages) if m.role == "user" and not is_recalled(m)), default=-1
    )
    start = last
    while start > 0 and (messages[start - 1].role == "user" or is_recalled(messages[start - 1])):
        start -= 1
    ours = {call.id for message in messages for call in message.tool_calls if call.name == RECALL}
    return [
        Turn(role=message.role, text=_whole(message.content))
        for message in messages[max(0, start) :]
        if message.role in ("user", "tool")
        and message.content
        and not is_recalled(message)
        and message.tool_call_id not in ours
    ]


def _whole(text: str) -> str:
    """The text as far as it is read, without half surrogate pairs, which no database takes."""
    return text[:LOOKED_AT].encode(errors="replace").decode()


def not_to_learn_from(messages: Sequence[Message]) -> list[str]:
    """The instructions, and what memories put into the conversation, line by line."""
    return [
        line.strip(' -[]"')
        for message in messages
        if message.role in ("system", "developer") or is_recalled(message)
        for line in (message.content or "").splitlines()
        if line.strip()
    ]


async def learn(
    ledger: Ledger,
    extract: Extract,
    turns: Sequence[Turn],
    scope: Scope,
    *,
    others: Sequence[str] = (),
) -> list[Change]:
    """What came of all that the turns tell; what was added is in the ledger then.

    Args:
        others: texts that nothing is to be learned from, `not_to_learn_from`.
    Raises:
        ModelError: the extractor's model did not answer, or not with facts.
    """
    if not turns:
        return []
    known = await asyncio.to_thread(_nearest, ledger, turns, scope)
    believed: list[Candidate] = []
    changes: list[Change] = []
    for candidate in await extract(turns, known):
        doubt = _doubt(candidate, turns[candidate.turn], others)
        if doubt:
            changes.append(Change(op="ignore", text=redact.text(candidate.text), why=doubt))
        else:
            believed.append(candidate)
    here = current()
    noted = await asyncio.to_thread(
        ledger.note,
        believed,
        [replace(turn, text=redact.text(turn.text)) for turn in turns],
        scope,
        trace=(here.trace_id or "") if here else "",
        span=here.id if here else "",
    )
    return [*changes, *noted]


def _nearest(ledger: Ledger, turns: Sequence[Turn], scope: Scope) -> list[Fact]:
    found: dict[str, Fact] = {}
    for turn in turns:
        for hit in search(ledger, turn.text[:1_000], scope, limit=SHOWN):
            found.setdefault(hit.fact.id, hit.fact)
    return list(found.values())[:SHOWN]


def _doubt(candidate: Candidate, turn: Turn, others: Sequence[str]) -> str:
    """Why the candidate is not believed; empty where it is."""
    text = candidate.text
    if not 2 < len(text) <= LONGEST:
        return "too long or too short for a fact"
    if redact.text(text) != text:
        return "holds what is not recorded, such as a key or an address"
    if not grounded(text, turn.text):
        return "not said in the turn that it is said to be from"
    if any(contained(text, other) >= COPIED for other in others):
        return "copied from the instructions or from a recalled memory"
    return ""
