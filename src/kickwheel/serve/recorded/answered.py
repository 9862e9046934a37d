"""What the bytes of an answer say, in whatever protocol."""

from dataclasses import dataclass, field

from kickwheel.models.chat import Usage
from kickwheel.records import Message


@dataclass(slots=True, kw_only=True)
class Answered:
    """An answer, as far as it came."""

    message: Message | None = None
    """`None` where there was none, or none of it could be understood."""
    finish: str = ""
    """Why it ended; empty where it did not."""
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    """What answered, as it names itself."""
    id: str = ""
    """What the server calls the answer."""
    error: str | None = None
    """What is wrong with it."""
