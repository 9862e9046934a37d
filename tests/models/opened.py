"""Models opened from YAML, as an app opens them."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kickwheel.app import App, open_app


@asynccontextmanager
async def opened(folder: Path, models: str, store: str | None = None) -> AsyncGenerator[App]:
    """The app whose models these lines of YAML describe; its store by default a folder."""
    lines = "".join(f"  {line}\n" for line in models.strip().splitlines())
    where = f"store: '{store}'\n" if store else ""
    (folder / "app.yml").write_text(f"{where}models:\n{lines}", encoding="utf-8")
    async with open_app(folder) as app:
        yield app


def attributes(app: App) -> list[dict[str, Any]]:
    """Attributes of the model spans so far, trace by trace."""
    app.recorder.flush()
    spans = (span for trace in app.traces.all() for span in trace.spans)
    return [dict(span.attributes) for span in spans if span.kind == "model"]
