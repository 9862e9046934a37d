"""What all frameworks' tests stand on: a stub of a model, an app of ours, the recorder; and the
table of docs/bridges/README.md, which says what was tested."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from tests.bridges import desk, provider, quiet, table
from tests.bridges.stub import Stub, stub_server

from kickwheel import App, open_app, serving

pytest.register_assert_rewrite(
    "tests.bridges.checks", "tests.bridges.examples", "tests.bridges.telemetry"
)
quiet.begin()
provider.begin()

APP = """
models:
  general: {{kind: openai, model: stub, base_url: "{url}", api_key: "${{STUB_KEY}}"}}
tools:
  desk: {{kind: python, functions: ["tests.bridges.desk:weather"], effects: none}}
  odd: {{kind: python, functions: ["tests.bridges.desk:odd"], effects: none}}
agents:
  concierge: {{kind: tool_loop, model: general, tools: [desk], description: Knows the weather.}}
"""


@pytest.fixture(autouse=True)
def nobody_is_told() -> Iterator[None]:
    """No framework speaks to its makers, or to anybody else, while a test runs or before."""
    yield
    assert not quiet.TRIED


@pytest.fixture(scope="session")
def one_stub() -> Iterator[Stub]:
    with stub_server() as stub:
        yield stub


@pytest.fixture
def stub(one_stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """A model on loopback that answers by script, as if it had just been started."""
    monkeypatch.setenv("STUB_URL", one_stub.url)
    monkeypatch.setenv("STUB_KEY", "sk-stub")
    one_stub.fresh()
    desk.CALLS.clear()
    return one_stub


@pytest.fixture
def app_file(stub: Stub, tmp_path: Path) -> Path:
    """An app of ours with a tool, a model and an agent."""
    file = tmp_path / "app.yml"
    file.write_text(APP.format(url=stub.url), encoding="utf-8")
    return file


@dataclass(frozen=True, slots=True)
class Served:
    """Our app, open and served."""

    app: App
    url: str


@pytest_asyncio.fixture(loop_scope="session")
async def served(app_file: Path) -> AsyncIterator[Served]:
    async with open_app(app_file) as app, serving(app) as url:
        yield Served(app, url)


@dataclass(frozen=True, slots=True)
class Recording:
    """`kickwheel serve --record` in front of the stub."""

    url: str
    """As it says itself, with `PROJECT` where a project is named."""
    store: Path

    def project(self, name: str) -> str:
        """The URL at which traffic is kept as that project's."""
        return self.url.replace("PROJECT", name)


@pytest.fixture(scope="session")
def recording(one_stub: Stub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    folder = tmp_path_factory.mktemp("recorder")
    command = [
        sys.executable,
        "-m",
        "kickwheel",
        "serve",
        f"--record={one_stub.url}",
        "--port",
        "0",
    ]
    environment = {k: v for k, v in os.environ.items() if k != "KICKWHEEL_API_KEY"}
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        url, passes, _ = process.stdout.readline().partition(" passes on to ")
        assert passes
        try:
            yield Recording(url, folder / ".kickwheel")
        finally:
            process.terminate()
            process.wait(20)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Several frameworks keep one HTTP client for the whole process, bound to the first loop.
    for item in items:
        item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


pytest_configure = table.pytest_configure
pytest_addoption = table.pytest_addoption
pytest_runtest_makereport = table.pytest_runtest_makereport
pytest_sessionfinish = table.pytest_sessionfinish
