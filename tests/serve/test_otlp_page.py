import re
from pathlib import Path
from typing import Any

from opentelemetry import trace

from kickwheel.appfile import AppFile
from kickwheel.core.config import check, read_yaml
from kickwheel.records import Message
from tests.serve.conftest import Rooms, running

PAGE = Path(__file__).parents[2] / "docs" / "otlp.md"


def test_what_the_page_shows_runs(tmp_path: Path, rooms: Rooms, monkeypatch: Any) -> None:
    monkeypatch.setattr(trace, "set_tracer_provider", lambda provider: None)
    # Those behind it are each for a framework, and run with that (tests/bridges).
    block, *_ = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    with running(tmp_path / "store", rooms) as served:
        block = block.replace("http://127.0.0.1:8000", served.url)
        exec(block.replace("trace.get_tracer(", "provider.get_tracer("), {})
        (line,) = served.traces.list("shop")
        (span,) = served.traces.get(line.id).spans
    assert span.input == (Message(role="user", content="Is Rome open?"),)


def test_the_section_that_the_page_shows_is_one(tmp_path: Path) -> None:
    (section,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "app.yml").write_text(section)
    document = read_yaml(tmp_path / "app.yml")
    mistakes: list[Any] = []
    found = check(document, (), document.data, AppFile, mistakes)
    assert not mistakes
    assert found is not None
    assert found.trace.export is not None
