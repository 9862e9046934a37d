"""What the journal holds of a run."""

from dataclasses import dataclass
from typing import Literal

RunState = Literal["running", "waiting", "done", "failed", "cancelled"]
"""`waiting`: for a person. `failed` and `cancelled` go on where they were when they are asked for
again; nobody takes them up otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRun:
    """One run of an agent."""

    id: str
    agent: str
    asked: bytes
    """What it was asked, as whoever asked wrote it."""
    tenant: str
    asker: str
    """For whom it works; both empty where nobody is known."""
    state: RunState
    owner: str
    """The worker that does it or did it last."""
    result: bytes | None = None
    """The answer of a run that is done."""
    error: str | None = None
    """Why it failed."""
    created: float
    """Unix time, seconds, here and below."""
    updated: float


@dataclass(frozen=True, slots=True)
class KeptStep:
    """One step of a run."""

    name: str
    arguments: str
    """Digest of all that the result depends on."""
    state: Literal["started", "done", "failed"]
    result: bytes | None
    """Of a step that failed, its error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a person is asked before a run goes on."""

    run: str
    path: str
    """The step that asks."""
    text: str
    choices: tuple[str, ...]
    """What may be answered; anything where there are none."""
    asked: float
    """Unix time, seconds."""
    answer: str | None = None
