"""Servers that NAT's functions are behind: MCP's, which have tools, and A2A's, which are agents."""

from collections.abc import Mapping
from typing import Any

from kickwheel.agents.nat.written import Entry


def server(entry: Entry, guards: Mapping[str, Any], *, per_user: bool) -> dict[str, Any]:
    """The entry of `tools` for a group of kind `mcp_client`.

    Args:
        guards: the file's `authentication`, by name.
        per_user: whether each caller has a connection of their own.
    """
    at = entry.entry("server")
    made: dict[str, Any] = {"kind": "mcp"}
    transport = at.text("transport") or "streamable-http"
    if transport == "stdio" or "command" in at:
        made["command"] = [at.text("command") or "PROGRAM", *at.names("args")]
        env = at.take_raw("env")
        if isinstance(env, Mapping):
            made["env"] = {str(key): str(value) for key, value in env.items()}
    else:
        made["url"] = at.text("url") or "https://HOST/mcp"
    if transport == "sse":
        at.written.tell(
            (*at.where, "transport"),
            "MCP has no SSE any more: serve with streamable HTTP, and give that address",
            act=True,
        )
    headers = at.take_raw("custom_headers")
    if isinstance(headers, Mapping):
        made["headers"] = {str(key): str(value) for key, value in headers.items()}
    provider = at.text("auth_provider")
    if provider:
        _authorised(at, made, provider, guards)
    only = entry.names("include")
    if only:
        named = aliases(entry)
        made["only"] = [named.get(one, one) for one in only]
    seconds = entry.number("tool_call_timeout") if "tool_call_timeout" in entry else None
    if seconds:
        made["timeout_s"] = seconds
    if per_user:
        made["as_caller"] = True
    entry.todo("exclude", "name what is offered instead, by `only`")
    overrides = entry.take("tool_overrides")
    if isinstance(overrides, Mapping) and overrides:
        entry.todo(
            "tool_overrides", "tools keep the server's names and words; `prefix` goes before"
        )
    for key in ("reconnect_enabled", "reconnect_max_attempts", "reconnect_initial_backoff",
                "reconnect_max_backoff", "auth_flow_timeout"):  # fmt: skip
        entry.moot(key, "nothing to set: a server that died is started or reached again")
    for key in ("session_aware_tools", "max_sessions", "session_idle_timeout"):
        entry.moot(key, "nothing to set: one connection is shared, and callers have their own")
    at.rest("the counterpart has no such option")
    return made


def one_tool(entry: Entry) -> dict[str, Any]:
    """One tool of an MCP server, as NAT 1.2 names it."""
    made: dict[str, Any] = {"kind": "mcp"}
    command = entry.text("command")
    if command:
        made["command"] = [command, *entry.names("args")]
        env = entry.take("env")
        if isinstance(env, Mapping):
            made["env"] = {str(key): str(value) for key, value in env.items()}
    else:
        made["url"] = entry.text("url") or "https://HOST/mcp"
    only = entry.text("mcp_tool_name")
    if only:
        made["only"] = [only]
    entry.moot("transport", "nothing to choose: a command is stdio, an address HTTP")
    entry.moot("return_exception", "errors are always told to the agent")
    return made


def elsewhere(entry: Entry) -> dict[str, Any]:
    """The agent that answers behind a group of kind `a2a_client`."""
    made: dict[str, Any] = {"kind": "a2a", "url": entry.text("url") or "http://HOST"}
    seconds = entry.number("task_timeout")
    if seconds:
        made["timeout_s"] = seconds
    streaming = entry.take("streaming")
    if isinstance(streaming, bool):
        made["streaming"] = streaming
    entry.moot("agent_card_path", "nothing to set: the card is where the protocol has it")
    entry.moot("include_skills_in_description", "nothing to set: the card says what it can do")
    entry.todo("auth_provider", "write what is shown there: token: ${NAME}, or headers")
    common(entry)
    entry.rest("the counterpart has no such option")
    return made


def aliases(entry: Entry) -> dict[str, str]:
    """The names that a group gives its server's tools, with the server's own."""
    overrides = entry.data.get("tool_overrides")
    found = overrides.items() if isinstance(overrides, Mapping) else ()
    return {
        str(one["alias"]): str(name)
        for name, one in found
        if isinstance(one, Mapping) and one.get("alias")
    }


def common(entry: Entry) -> None:
    """Keys that every function of NAT may have."""
    entry.moot("description", "the tool says itself what it does")
    entry.moot("verbose", "every call is in the trace")
    entry.moot("name", "tools are called as they stand in the file")
    entry.todo("middleware", "put what it guards against into the tool's limits, or around it")


def _authorised(at: Entry, made: dict[str, Any], provider: str, guards: Mapping[str, Any]) -> None:
    guard = guards.get(provider)
    kind = str(guard.get("_type")) if isinstance(guard, Mapping) else ""
    if kind == "api_key" and isinstance(guard, Mapping):
        header = str(guard.get("custom_header_name") or "Authorization")
        made["headers"] = {**made.get("headers", {}), header: "${MCP_TOKEN}"}
        what = f'export MCP_TOKEN, with "Bearer " before the key where {header} wants it'
    else:
        made["as_caller"] = True
        what = "callers' own tokens are passed on (as_caller); nobody is sent to a login page"
    at.written.tell((*at.where, "auth_provider"), what, act=True)
