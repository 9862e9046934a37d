"""What a fact is: whose it is, what it says, where it came from, how long it held."""

from dataclasses import dataclass
from typing import Literal

Origin = Literal["user", "tool"]
Op = Literal["add", "supersede", "ignore"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose facts they are. What is empty in a fact holds for any; tenant and user never mix."""

    tenant: str = ""
    user: str = ""
    agent: str = ""
    session: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing that was said, and held from then on."""

    id: str
    scope: Scope
    subject: str
    """Whom or what it is about; `user` for whoever said it."""
    kind: str
    """`name`, `place`, `preference`, `date`, `trait`, `attribute`, `decision`, `note`, …"""
    text: str
    slot: str = ""
    """What can have one value at a time, as `name`: a new fact of the slot supersedes the old.
    Empty where facts stand beside each other."""
    valid_from: int
    """Unix time, nanoseconds."""
    valid_to: int | None = None
    """When another fact took its place; `None` while it holds."""
    trace: str = ""
    """Id of the trace that it was learned in; empty outside one."""
    span: str = ""
    """Id of the span that it was learned in."""
    origin: Origin = "user"
    """Who said it."""
    said: str = ""
    """The message that it was learned from, as far as it was kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What an extractor believes to have read."""

    text: str
    kind: str = "note"
    subject: str = "user"
    slot: str = ""
    replaces: str = ""
    """Id of the fact that no longer holds."""
    turn: int = 0
    """Which of the turns said it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Something that a user or a tool said."""

    role: Origin
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What came of a candidate."""

    op: Op
    text: str
    id: str = ""
    """Of the fact that was added, or that was known already."""
    replaced: str = ""
    """Id of the fact that it superseded."""
    why: str = ""
    """Why it was ignored."""
