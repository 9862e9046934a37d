"""A command is started only where it stands in a file on disk: no door takes one from a request."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.serve.mcp.served import ANN, Server

HEADERS = {"authorization": f"Bearer {ANN}", "content-type": "application/json"}


def post(url: str, body: Any) -> int:
    request = urllib.request.Request(url, json.dumps(body).encode(), HEADERS)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("kind", ["mcp", "function"])
def test_no_request_starts_a_command(server: Server, tmp_path: Path, kind: str) -> None:
    touched = tmp_path / "touched"
    command = ["/usr/bin/touch", str(touched)]
    tool = {
        "type": kind,
        "kind": "mcp",
        "server_label": "clinic",
        "server_url": f"file://{touched}",
        "command": command,
        "args": command[1:],
    }
    message = {"role": "user", "content": "hello"}
    asked = {"model": "echo", "messages": [message], "input": "hello", "tools": [tool]}
    assert post(f"{server.url}/v1/chat/completions", asked) == 400
    assert post(f"{server.url}/v1/responses", asked) == 400
    section = {"tools": {"clinic": {"kind": "mcp", "command": command}}}
    more = {**section, "command": command, "mcpServers": {"clinic": {"command": command[0]}}}
    for path in (
        "/v1/completions",
        "/v1/embeddings",
        "/v1/fine_tuning/jobs",
        "/v1/customization/jobs",
        "/v1/traces",
        "/a2a/echo",
    ):
        post(f"{server.url}{path}", {**asked, **more, "training_file": "x", "prompt": "x"})
    call = {"name": "price", "arguments": {"article": "x"}, "_meta": more, **more}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    post(f"{server.url}/mcp", body)
    assert not touched.exists()
