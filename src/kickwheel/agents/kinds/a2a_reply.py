"""What an agent elsewhere has said so far, as the journal keeps it."""

from dataclasses import dataclass
from typing import Literal

State = Literal[
    "working", "input-required", "completed", "failed", "canceled", "rejected", "auth-required"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """How it stands with what was asked."""

    state: State = "working"
    task: str = ""
    """Id of the task there; empty where it answered at once, without one."""
    context: str = ""
    """Id of the conversation there."""
    text: str = ""
    """The answer; what is asked; or why there is no answer."""

    @property
    def asks(self) -> bool:
        """Whether it waits for an answer."""
        return self.state == "input-required"

    @property
    def answered(self) -> bool:
        """Whether the answer is there."""
        return self.state == "completed"

    @property
    def ended(self) -> bool:
        """Whether nothing more will come, but for an answer of ours."""
        return self.state not in ("working", "input-required")

    @property
    def why(self) -> str:
        """Why there is no answer."""
        what = {
            "failed": "failed there",
            "canceled": "was cancelled there",
            "rejected": "refused",
            "auth-required": "wants a login that it has not got",
        }.get(self.state, f"gave no answer: {self.state}")
        return f"{what}: {self.text}" if self.text else what
