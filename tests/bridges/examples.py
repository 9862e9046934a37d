"""The examples on docs/bridges/README.md, run as they stand there."""

import importlib
import re
from pathlib import Path

import pytest
from tests.bridges import checks, desk, table
from tests.bridges.desk import Framework
from tests.bridges.stub import ANSWER, Stub

from kickwheel import open_app, serving
from kickwheel.records import Message


async def works(
    framework: Framework, folder: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The framework's `desk.py` on the page works in the app on the page, in both ways."""
    monkeypatch.setenv("OPENAI_BASE_URL", stub.url)
    monkeypatch.setenv("OPENAI_API_BASE", stub.url)  # As LlamaIndex calls it.
    monkeypatch.setenv("OPENAI_API_KEY", "sk-stub")
    stub.arguments["weather"] = {"city": "Oslo"}
    module = _written(framework, folder)
    async with open_app(folder) as app, serving(app) as url:
        finished = [e async for e in app.model("theirs").run(_asked())][-1]  # type: ignore[attr-defined]
        assert finished.answer.content == ANSWER
        asked = [checks.words(request.body["messages"][-1]["content"]) for request in stub.asked]
        assert desk.QUESTION in asked[0]
        assert "sunny in Oslo" in asked[-1]
        stub.asked.clear()
        assert await importlib.import_module(module).ours(app, url) == ANSWER
        assert "sunny in Oslo" in checks.words(stub.asked[-1].body["messages"][-1]["content"])


def _written(framework: Framework, folder: Path) -> str:
    """The app and the module of the page, written into the folder; name of the module."""
    page = table.PAGE.read_text("utf-8")
    module = f"desk_{framework.kind}"
    app = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    code = next(b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if _of(framework, b))
    assert app is not None
    named = app[1].replace('"desk:', f'"{module}:').replace("langgraph", framework.kind)
    (folder / "app.yml").write_text(named, "utf-8")
    (folder / f"{module}.py").write_text(code, "utf-8")
    return module


def _of(framework: Framework, block: str) -> bool:
    name = framework.bridge.__name__.rpartition(".")[2]
    return f"from kickwheel.agents.bridges import {name}\n" in block


def _asked() -> list[Message]:
    return [Message(role="user", content=desk.QUESTION)]
