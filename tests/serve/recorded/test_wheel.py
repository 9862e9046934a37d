"""From a program's traffic to a dataset: the recorder as it is started, and the flywheel behind."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from openai import AsyncOpenAI

from kickwheel import curate
from kickwheel.app import check_app
from kickwheel.core.errors import ConfigError
from kickwheel.core.store import open_store
from kickwheel.flywheel.curate import load
from kickwheel.trace.store import Traces
from tests.models.loopback import Loopback, chunk, loopback, stream
from tests.support_tickets import tickets

TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "file",
            "description": "Puts a ticket where it belongs",
            "parameters": {
                "type": "object",
                "properties": {"label": {"type": "string"}},
                "required": ["label"],
            },
        },
    }
]
APP = """
models:
  specialist: {kind: local, base: smollm2-135m, adapter: desk/specialist}
flywheel:
  project: desk
  model: specialist
"""


@asynccontextmanager
async def clerk(labels: Mapping[str, str]) -> AsyncGenerator[Loopback]:
    """A model elsewhere that files each ticket by a call, streamed or whole."""

    async def answer(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        arguments = json.dumps({"label": labels[asked["messages"][-1]["content"]]})
        function = {"name": "file", "arguments": arguments}
        call = {"index": 0, "id": "c1", "type": "function", "function": function}
        if asked.get("stream"):
            begun = {**call, "function": {**function, "arguments": arguments[:5]}}
            rest = {"index": 0, "function": {"arguments": arguments[5:]}}
            chunks = (chunk(tool_calls=[begun]), chunk(tool_calls=[rest]), chunk("tool_calls"))
            return await stream(request, *chunks)
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        return web.json_response({"id": "1", "model": "m-1", "choices": [choice]})

    async with loopback(answer) as there:
        yield there


@asynccontextmanager
async def serving(folder: Path, *arguments: str) -> AsyncGenerator[tuple[str, list[str]]]:
    """`kickwheel serve` in the folder: its URL, and the lines that it says until it has ended."""
    said: list[str] = []
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kickwheel", "serve", "--port", "0", *arguments),
        cwd=folder,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        said.append((await process.stdout.readline()).decode())
        yield said[0].partition("/v1 ")[0].removesuffix("/t/PROJECT"), said
    finally:
        process.send_signal(signal.SIGTERM)
        rest, _ = await process.communicate()
        said += rest.decode().splitlines()
    assert process.returncode == 0


async def test_traffic_of_a_program_becomes_a_dataset_of_its_project(tmp_path: Path) -> None:
    lines: list[Any] = tickets(60)
    labels = {line["messages"][-2]["content"]: line["messages"][-1]["content"] for line in lines}
    async with (
        clerk(labels) as there,
        serving(tmp_path, f"--record={there.url}/v1") as (url, said),
    ):
        program = AsyncOpenAI(base_url=f"{url}/t/desk/v1", api_key="theirs")
        other = AsyncOpenAI(base_url=f"{url}/t/other/v1", api_key="theirs")
        for position, ticket in enumerate(labels):
            got = await (program if position else other).chat.completions.create(
                model="gpt",
                messages=[{"role": "user", "content": ticket}],
                tools=TOOLS,
                stream=bool(position % 2),
            )
            if position % 2:
                assert [piece async for piece in got][-1].choices  # type: ignore[union-attr]
    began = f"{url}/t/PROJECT/v1 passes on to {there.url}/v1 (no key: this machine only)."
    assert said[0] == f"{began} Ctrl-C ends it.\n"
    assert said[-1] == f"{len(labels)} traces kept, 0 lost"
    assert {asked[2]["Authorization"] for asked in there.asked} == {"Bearer theirs"}

    (tmp_path / "app.yml").write_text(APP)
    identity = await asyncio.to_thread(curate, tmp_path)
    with open_store(tmp_path / ".kickwheel") as store:
        assert Traces(store).count("desk") == len(labels) - 1
        dataset = load(store.artifacts.path("dataset", identity))
    assert dataset.steps[0].kept == len(labels) - 1
    assert len(dataset.examples) > 40
    for example in dataset.examples:
        (call,) = example.answer.tool_calls
        assert json.loads(call.arguments) == {"label": labels[str(example.messages[-1].content)]}
        assert [tool.name for tool in example.tools] == ["file"]


async def test_an_app_says_where_its_recorded_traffic_goes_and_with_which_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELSEWHERE_KEY", "sk-elsewhere")
    async with clerk({"Late!": "shipping"}) as there:
        (tmp_path / "app.yml").write_text(
            "models:\n  big:\n    kind: openai\n    model: gpt\n    api_key: ${ELSEWHERE_KEY}\n"
            f"    base_url: {there.url}/v1\nserve: {{record: big}}\n"
        )
        async with serving(tmp_path) as (url, _):
            program = AsyncOpenAI(base_url=f"{url}/t/desk/v1", api_key="none")
            await program.chat.completions.create(
                model="gpt", messages=[{"role": "user", "content": "Late!"}]
            )
    assert there.asked[0][2]["Authorization"] == "Bearer sk-elsewhere"


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ("bg", 'serve.record: no model named "bg". Did you mean "big"?'),
        ("ours", "serve.record: models.ours is of kind local; traffic goes to kind openai only"),
    ],
)
def test_an_upstream_that_is_none_is_told_with_its_place(
    tmp_path: Path, record: str, told: str
) -> None:
    (tmp_path / "app.yml").write_text(
        "models:\n  big: {kind: openai, model: gpt}\n"
        f"  ours: {{kind: local, base: smollm2-135m}}\nserve: {{record: {record}}}\n"
    )
    with pytest.raises(ConfigError) as raised:
        check_app(tmp_path)
    assert told in str(raised.value)


def test_either_an_agent_or_a_project_is_learned_from(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text(
        APP.replace("project: desk", "project: desk\n  agent: clerk")
        + "agents: {clerk: {kind: tool_loop, model: specialist}}\n"
    )
    with pytest.raises(ConfigError, match="either an agent or a project"):
        check_app(tmp_path)


def test_what_is_no_url_is_told_before_anything_is_served(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "kickwheel", "serve", "--record", "app.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert '"app.yml" is no URL to record' in ended.stderr
