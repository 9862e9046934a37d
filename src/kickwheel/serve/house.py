"""What the front door needs to know of the app behind it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from kickwheel.models.chat import Model

ADAPTER = "adapter/"
"""How the names of the store's adapters begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What `/v1/models` says of something that answers."""

    id: str
    """The name to ask it by."""
    kind: Literal["agent", "model"] = "model"
    """Whether a request to it is one model call, or an agent's work with spans of its own."""
    created: int = 0
    """Unix time, seconds."""
    owned_by: str = "kickwheel"
    parent: str | None = None
    """For an adapter: the base that it belongs to."""
    context: int | None = None
    """Tokens of prompt and answer together, where known."""
    tunable: bool = False
    """Whether fine-tuning jobs may start from it."""


class House(Protocol):
    """The open app. What it holds may change at any moment, as when a ref moves."""

    def models(self) -> Sequence[ModelCard]:
        """All that answers now; reads the disk, so the event loop has a thread ask."""

    async def model(self, name: str) -> Model:
        """What answers under this name; asked anew for each request.

        It is also how the front door makes sure that a finished fine-tuning job's model answers:
        the job succeeds when this returns.

        Raises:
            UsageError: nothing answers under it; the text names the nearest.
            EngineError: it exists but cannot be opened.
        """

    def ready(self) -> str | None:
        """`None` when all can answer, otherwise what is not ready yet."""
