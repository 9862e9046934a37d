"""Clients that break the protocol: each is told so, and the server goes on."""

import asyncio
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from mcp import MCPError

from tests.serve.mcp.served import ANN, BOB, Server, eventually, serving

OLD = {"mcp-protocol-version": "2025-06-18"}
NEW = {"mcp-protocol-version": "2026-07-28"}


def rpc(method: str, params: Any = None, identity: Any = 1) -> bytes:
    return json.dumps(
        {"jsonrpc": "2.0", "id": identity, "method": method, "params": params or {}}
    ).encode()


def hello(version: str = "2025-06-18") -> bytes:
    client = {"name": "test", "version": "1"}
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": client}
    return rpc("initialize", params)


def modern(name: str, arguments: Any, version: str = "2026-07-28") -> tuple[bytes, dict[str, str]]:
    """A call of 2026 as it goes over the wire."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    body = rpc("tools/call", {"name": name, "arguments": arguments, "_meta": meta})
    return body, {"mcp-protocol-version": version, "mcp-method": "tools/call", "mcp-name": name}


def test_without_a_key_nobody_comes_in_and_is_told_what_to_show(server: Server) -> None:
    status, headers, body = server.post(hello(), key=None)
    assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="kickwheel"')
    assert json.loads(body)["error"]["code"] == "missing_api_key"
    status, headers, _ = server.post(hello(), key="another")
    assert status == 401
    assert headers["www-authenticate"] == 'Bearer realm="kickwheel", error="invalid_token"'


@pytest.mark.parametrize("headers", [OLD, NEW, {}], ids=["old", "new", "none"])
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"7", b'{"jsonrpc": "2.0"}', b'{"id": 1}', b"\xff\xfe", b"[" * 100_000],
    ids=["empty", "half", "list", "number", "no method", "no version", "no text", "deep"],
)
def test_what_is_no_message_is_refused(
    server: Server, headers: dict[str, str], body: bytes
) -> None:
    status, _, said = server.post(body, headers=headers)
    assert status == 400
    assert "error" in json.loads(said)


def test_a_version_that_nobody_speaks_is_told_with_those_that_are_spoken(server: Server) -> None:
    body, headers = modern("price", {}, "1999-01-01")
    status, _, said = server.post(body, headers=headers)
    assert status == 400
    assert "2026-07-28" in said.decode()
    # The older protocol agrees on a version instead.
    status, _, said = server.post(hello("1999-01-01"))
    assert status == 200
    assert "2025-" in said.decode()


def test_a_huge_body_is_refused_before_it_is_read(server: Server) -> None:
    for more, key in ((5 << 20, ANN), (20 << 20, ANN)):
        body, headers = modern("price", {"article": "a" * more})
        host, port = server.url.removeprefix("http://").split(":")
        lines = [
            "POST /mcp HTTP/1.1",
            f"host: {host}",
            f"authorization: Bearer {key}",
            f"content-length: {len(body)}",
            *(f"{name}: {value}" for name, value in headers.items()),
            "content-type: application/json",
            "accept: application/json, text/event-stream",
        ]
        with socket.create_connection((host, int(port)), timeout=20) as wire:
            wire.sendall("\r\n".join([*lines, "", ""]).encode())
            said = wire.recv(4096).decode()
        assert " 413 " in said.partition("\r\n")[0]


def test_methods_that_the_door_does_not_take_are_refused(server: Server) -> None:
    assert server.post(b"", headers=OLD, method="PUT")[0] == 405
    status, _, said = server.post(rpc("tools/burn"), headers={**NEW, "mcp-method": "tools/burn"})
    assert status in (400, 404)
    assert "error" in json.loads(said)


def test_a_session_is_of_no_use_to_others_and_ends_when_its_client_says_so(
    server: Server,
) -> None:
    status, headers, _ = server.post(hello())
    assert status == 200
    mine = {**OLD, "mcp-session-id": headers["mcp-session-id"]}
    assert server.post(rpc("ping"), headers=mine)[0] == 200
    assert server.post(rpc("ping"), headers=mine, key=BOB)[0] == 404
    assert server.post(b"", headers=mine, method="DELETE")[0] == 200
    assert server.post(rpc("ping"), headers=mine)[0] == 404


async def test_arguments_of_any_kind_are_an_error_for_the_model_and_no_more(
    server: Server,
) -> None:
    async with server.client() as client:
        for arguments in ({"article": None}, {"article": ["x"] * 1000}, {"wrong": 1}, {}):
            assert (await client.call_tool("price", arguments)).is_error
        with pytest.raises(MCPError, match="no page"):
            await client.list_resources(cursor="next, please")
        ok = await client.call_tool("price", {"article": "pear"})
        assert ok.content[0].text == "1 pear: 3 EUR"


async def test_a_client_that_vanishes_ends_its_call(server: Server, tmp_path: Path) -> None:
    note = tmp_path / "note"
    body, headers = modern("slow", {"task": str(note)})
    host, port = server.url.removeprefix("http://").split(":")
    lines = [
        "POST /mcp HTTP/1.1",
        f"host: {host}",
        f"authorization: Bearer {ANN}",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
        "content-type: application/json",
        "accept: application/json, text/event-stream",
    ]
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    await eventually(lambda: note.exists() and note.read_text() == "begun")
    writer.close()
    await eventually(lambda: note.read_text() == "begun cancelled")


async def test_a_server_that_is_told_to_stop_does_not_wait_for_open_streams(folder: Path) -> None:
    with serving(folder) as server:
        async with server.client("legacy") as client:
            await client.list_tools()
            await asyncio.sleep(0.3)  # Its stream of news is open by now.
            os.kill(server.process.pid, signal.SIGTERM)
            began = time.monotonic()
            await asyncio.to_thread(server.process.wait, 25)
            assert time.monotonic() - began < 20, "GRACE_S is 30"


@pytest.mark.slow
async def test_where_several_processes_answer_the_older_protocol_goes_without_sessions(
    folder: Path,
) -> None:
    players = folder / "players.py"
    players.write_text(players.read_text().replace('print("an import that chatters")', ""))
    with serving(folder, "--workers", "2") as server:
        for era in ("auto", "legacy"):
            for _ in range(6):
                async with server.client(era) as client:
                    answer = await client.call_tool("whoami", {})
                    assert answer.content[0].text == "ann"
