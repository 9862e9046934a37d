"""The tracer provider of these tests, from before the first import of a framework."""

import os
import re
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

PAGE = Path(__file__).parents[2] / "docs" / "otlp.md"
"""How each framework is switched on."""


class Line(SpanProcessor):
    """Leads all spans of the process to whoever listens; between tests nobody does."""

    listening: SpanProcessor | None = None

    def on_end(self, span: Any) -> None:
        if self.listening is not None:
            self.listening.on_end(span)


LINE = Line()


def begin() -> None:
    """Sets the one provider that a process may have, and the variables that the page tells to set;
    before the first import of a framework, since some look then."""
    for name, value in re.findall(r"^export (\w+)=(\S+)$", PAGE.read_text("utf-8"), re.MULTILINE):
        os.environ[name] = value
    provider = TracerProvider()
    provider.add_span_processor(LINE)
    trace.set_tracer_provider(provider)
