import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from mcp_types import ElicitResult

from kickwheel.core.store import open_store
from kickwheel.trace.store import Traces
from tests.serve.mcp.served import ERAS, KICKWHEEL, eventually, piped
from tests.serve.mcp.test_calls import said


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_that_starts_us_does_all_that_one_over_http_does(
    folder: Path, era: str
) -> None:
    async def person(context: Any, params: Any) -> ElicitResult:
        choices = params.requested_schema["properties"]["answer"].get("enum")
        return ElicitResult(action="accept", content={"answer": "yes" if choices else "400 EUR"})

    async with piped(folder, era, elicitation_callback=person) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert {"echo", "careful", "price", "refund", "papers_read"} <= names
        assert said(await client.call_tool("price", {"article": "pear"})) == "1 pear: 3 EUR"
        assert said(await client.call_tool("whoami", {})) == "nobody"
        assert said(await client.call_tool("careful", {"task": "pay"})) == "400 EUR, yes"
        assert said(await client.call_tool("refund", {"amount": 5})) == "5 EUR paid back"
        terms = await client.read_resource("files://papers/terms.md")
        assert terms.contents[0].text.startswith("# Terms")
        note = folder / "note"
        call = asyncio.create_task(client.call_tool("slow", {"task": str(note)}))
        await eventually(lambda: note.exists() and note.read_text() == "begun")
        call.cancel()
        await eventually(lambda: note.read_text() == "begun cancelled")
    assert (folder / "refunds").read_text() == "5\n"
    assert (folder / "acts").read_text() == "acted\n", "nothing was done again for an answer"
    with open_store(folder / ".kickwheel") as store:
        assert {"careful", "price", "refund"} <= {t.workload for t in Traces(store).all()}


def test_nothing_but_the_protocol_goes_to_standard_output(folder: Path) -> None:
    lines = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": _HELLO},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {
            "jsonrpc": "2.0",
            "id": 2,
            "method": "tools/call",
            "params": {"name": "price", "arguments": {"article": "pear"}},
        },
    ]
    with _started(folder) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in lines:
            process.stdin.write(json.dumps(line) + "\n")
        process.stdin.write("this is no JSON\n")
        process.stdin.flush()
        heard = [json.loads(process.stdout.readline()) for _ in range(2)]
        out, errors = process.communicate(timeout=20)
    assert [message["id"] for message in heard] == [1, 2]
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in out.splitlines())
    assert "an import that chatters" in errors
    assert "a tool that chatters" in errors
    assert process.returncode == 0, "the client closed its end"


def test_sigterm_ends_it_in_order(folder: Path) -> None:
    with _started(folder) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": _HELLO}
        process.stdin.write(json.dumps(hello) + "\n")
        process.stdin.flush()
        process.stdout.readline()
        os.kill(process.pid, signal.SIGTERM)
        _waited(process)
        assert process.stderr is not None
        errors = process.stderr.read()
    assert process.returncode == 0
    assert "Traceback" not in errors


def test_an_app_that_offers_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text("models: {}\n")
    with _started(tmp_path) as process:
        _waited(process)
        assert process.stdout is not None
        assert process.stderr is not None
        out, errors = process.stdout.read(), process.stderr.read()
    assert process.returncode == 1
    assert out == ""
    assert "offers nothing over MCP. Add an agent, or name tools" in errors


_HELLO = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


def _started(folder: Path) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    command = [KICKWHEEL, "mcp", str(folder)]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=folder)


def _waited(process: "subprocess.Popen[str]") -> None:
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
