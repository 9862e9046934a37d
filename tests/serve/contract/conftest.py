"""A whole app behind `kickwheel serve`, with another server as the model that it asks."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest

from tests.models import tiny
from tests.serve.conftest import Agent, Caller, Echo, Rooms, running

APP = """
models:
  echo: {{kind: openai, model: echo, base_url: "{url}/v1", api_key: none}}
  words: {{kind: embedding}}
  small: {{kind: local, base: ./tiny.gguf}}
agents:
  helper: {{kind: tool_loop, model: echo}}
  boss: {{kind: human, choices: [approve, reject]}}
"""


@dataclass
class Whole:
    """The server, and names of what is there."""

    url: str
    identities: list[str]

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="package")
def whole() -> Iterator[Whole]:
    echo = Echo()
    rooms = Rooms(live={"echo": echo, "caller": Caller(), "agent": Agent(echo)})
    program = Path(sys.executable).with_name("kickwheel")
    with tempfile.TemporaryDirectory() as place, running(Path(place) / "far", rooms) as far:
        tiny.write_base(Path(place) / "tiny.gguf")
        (Path(place) / "app.yml").write_text(APP.format(url=far.url))
        command = [str(program), "serve", place, "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                url = process.stdout.readline().split()[0].removesuffix("/v1")
                yield Whole(url, [])
            finally:
                process.terminate()
