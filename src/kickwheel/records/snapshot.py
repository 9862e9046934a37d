"""The moment to deploy: content-addressed, immutable."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kickwheel.records.adapter import PromptForm


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The folder beside this record holds all that serving needs but the base itself."""

    name: str
    """The ref that it was made for, `concierge/specialist`."""
    base: str
    base_sha256: str
    adapter: str
    form: PromptForm
    report: str
    files: Mapping[str, str] = field(default_factory=dict)
    """Path inside the folder → SHA-256 of its bytes."""
    time_ns: int = 0
    version: int = 1
