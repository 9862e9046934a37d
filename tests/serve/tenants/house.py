"""A house with two tenants and people who have none, each with a key, in front of a whole app."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai

from kickwheel.models.caller import Caller
from tests.serve.conftest import Echo, Rooms, running

PEOPLE: Mapping[str, Caller] = {
    "house": Caller(),
    "ann": Caller(user="ann", tenant="clinic"),
    "sue": Caller(user="sue", tenant="clinic"),
    "eve": Caller(user="eve", tenant="bank"),
    "tom": Caller(user="tom"),
    "pat": Caller(user="pat"),
}
"""By their keys."""

PAIRS = (
    *(("ann", "ann"), ("sue", "ann"), ("eve", "ann"), ("tom", "ann"), ("house", "ann")),
    *(("tom", "tom"), ("pat", "tom"), ("ann", "tom"), ("house", "tom")),
    *(("house", "house"), ("ann", "house"), ("tom", "house")),
)
"""Who looks, and whose it is: in all ways in which two can stand to each other."""


def sees(reader: str, maker: str) -> bool:
    """What `docs/serve.md` says of traces, files, jobs and tuned models."""
    mine, theirs = PEOPLE[reader].tenant, PEOPLE[maker].tenant
    return reader in ("house", maker) or bool(mine and mine == theirs)


def is_same(reader: str, maker: str) -> bool:
    """What it says of runs, responses, tasks, sessions and memory."""
    return reader == maker


class Unknown(Exception):
    """The door wants a key."""


@dataclass
class House:
    """The server, and the models that its app asks elsewhere."""

    url: str
    far: Echo

    def client(self, key: str, path: str = "/v1") -> openai.OpenAI:
        """The official client."""
        return openai.OpenAI(base_url=f"{self.url}{path}", api_key=key, max_retries=0)

    def call(
        self, key: str, path: str, body: Any = None, method: str | None = None
    ) -> tuple[int, Any]:
        """A raw request, and the JSON that it is answered with."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            if error.code == 401:
                raise Unknown from error
            return error.code, json.loads(error.read() or b"null")

    def finds(self, key: str, path: str, body: Any = None, method: str | None = None) -> bool:
        """Whether there is anything at all for this one, whatever may be done with it."""
        return self.call(key, path, body, method)[0] != 404


APP = """
models:
  echo: {{kind: openai, model: echo, base_url: "{url}/v1", api_key: none}}
  cached: {{kind: cache, model: echo}}
  near: {{kind: cache, model: echo, threshold: 0.8}}
memory:
  notes: {{kind: facts}}
agents:
  helper: {{kind: tool_loop, model: echo, memory: [notes]}}
  boss: {{kind: human, choices: [approve, reject]}}
serve:
  record: echo
  auth:
    key: house
    keys: {keys}
"""


@contextmanager
def serving(folder: Path) -> Iterator[House]:
    """`kickwheel serve` with the app in a process of its own."""
    echo = Echo()
    with running(folder / "far", Rooms(live={"echo": echo})) as far:
        keys = [
            {"key": key, "user": who.user, "tenant": who.tenant}
            for key, who in PEOPLE.items()
            if who.user
        ]
        (folder / "app.yml").write_text(APP.format(url=far.url, keys=json.dumps(keys)))
        command = [str(Path(sys.executable).with_name("kickwheel")), "serve", str(folder)]
        environment = {k: v for k, v in os.environ.items() if k != "KICKWHEEL_API_KEY"}
        with subprocess.Popen(
            [*command, "--port", "0"], stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stdout is not None
            try:
                url = process.stdout.readline().split()[0].removesuffix("/v1")
                yield House(url, echo)
            finally:
                process.terminate()
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
