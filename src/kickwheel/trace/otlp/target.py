"""Where traces are sent, as people write it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

PATH = "/v1/traces"


@dataclass(frozen=True, slots=True)
class Target:
    """A collector."""

    url: str
    """Its base, as in OTEL_EXPORTER_OTLP_ENDPOINT, or all of it up to `/v1/traces`."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def traces(self) -> str:
        """Where traces go."""
        bare = self.url.rstrip("/")
        return bare if bare.endswith(PATH) else bare + PATH
