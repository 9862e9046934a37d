"""An MCP server of 2025 in a few lines, that does what the test wants: `python stranger.py MOOD`.

It is written without the SDK, so that it can lie, die, hang and shout in ways that the SDK forbids.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MOOD = sys.argv[1]
OBJECT = {"type": "object"}
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def hear() -> dict[str, Any]:
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    found: dict[str, Any] = json.loads(line)
    return found


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "description": f"{name} it", "inputSchema": TEXT, **more}


def tools() -> list[dict[str, Any]]:
    if MOOD == "lies":
        return [
            tool("echo", inputSchema={"type": "object", "properties": {"a": {"type": "nonsense"}}}),
            tool("refuse"),
            tool("slow", inputSchema={"properties": {"text": {"pattern": "^(a+)+$"}}, **OBJECT}),
            tool("promise", outputSchema={"type": "object", "required": ["sum"]}),
        ]
    if MOOD == "wrong":
        return [tool("echo"), tool("list", inputSchema={"type": "array"})]
    if MOOD == "many":
        return [tool(f"tool_{n}") for n in range(400)]
    found = [
        tool("echo"),
        tool("read", annotations={"readOnlyHint": True}),
        tool("put", annotations={"idempotentHint": True}),
        tool("files.delete", annotations={"destructiveHint": True}),
        *(tool(name) for name in ("die", "hang", "shout", "ask", "grow", "environment", "fail")),
    ]
    return found + ([tool("new")] if GROWN else [])


GROWN: list[bool] = []


def call(name: str, text: str, identity: Any) -> None:
    def answer(**result: Any) -> None:
        say({"id": identity, "result": result})

    def told(said: str, **more: Any) -> None:
        answer(content=[{"type": "text", "text": said}], **more)

    if MOOD == "lies" and name == "refuse":
        say({"id": identity, "error": {"code": -32602, "message": "text must be a poem"}})
    elif name == "promise":
        told("42", structuredContent={"total": 42})
    elif name == "die":
        print("out of memory, sk-live-0123456789abcdefghij", file=sys.stderr, flush=True)
        os._exit(3)
    elif name == "read" and text:
        # Dies in its first life, and answers in its second.
        if not Path(text).exists():
            Path(text).write_text("died")
            os._exit(4)
        told("read")
    elif name == "hang":
        time.sleep(600)
    elif name == "shout":
        told("x" * 100_000_000)
    elif name == "fail":
        told("no such file", isError=True)
    elif name == "environment":
        told(json.dumps(dict(os.environ)))
    elif name == "grow":
        GROWN.append(True)
        say({"method": "notifications/tools/list_changed"})
        told("grown")
    elif name == "ask":
        schema = {"type": "object", "properties": {"sure": {"type": "boolean"}}}
        params = {"message": "Sure?", "requestedSchema": schema}
        say({"id": "q1", "method": "elicitation/create", "params": params})
        while (heard := hear()).get("id") != "q1":
            pass
        told(json.dumps(heard["result"]))
    else:
        told(text)


def serve() -> None:
    if MOOD == "broken":
        sys.exit("no database, no service")
    if MOOD == "silent":
        time.sleep(600)
    if MOOD == "chatty":
        print("Welcome to the server!", flush=True)
    if MOOD == "parent":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(sys.argv[2]).write_text(str(child.pid))
    while True:
        message = hear()
        identity, method = message.get("id"), message.get("method")
        if method == "initialize":
            version = message["params"]["protocolVersion"]
            information = {"name": "stranger", "version": "1"}
            capabilities = {"tools": {"listChanged": True}}
            result = {
                "protocolVersion": version,
                "capabilities": capabilities,
                "serverInfo": information,
            }
            say({"id": identity, "result": result})
        elif method == "tools/list":
            result = {"tools": tools()}
            if MOOD == "many":
                result["nextCursor"] = "more"
            say({"id": identity, "result": result})
        elif method == "tools/call":
            params = message["params"]
            call(params["name"], params.get("arguments", {}).get("text", ""), identity)
        elif identity is not None and method is not None:
            say({"id": identity, "error": {"code": -32601, "message": "Method not found"}})


if __name__ == "__main__":
    serve()
