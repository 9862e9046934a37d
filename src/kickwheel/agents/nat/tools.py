"""NAT's `functions` and `function_groups` that are tools, as ours.

A function is mostly code of the workflow's own, registered under a name: that code stays where it
is, and only how to bring it in can be told.
"""

from collections.abc import Callable, Mapping
from typing import Any

from kickwheel.agents.nat.written import Entry

CLOCK = "clock.py"
CLOCK_TEXT = """\
\"\"\"What time it is.\"\"\"

from datetime import UTC, datetime


def current_datetime() -> str:
    \"\"\"The date and time now, in UTC.\"\"\"
    return datetime.now(UTC).isoformat(timespec="seconds")


def current_timezone() -> str:
    \"\"\"The time zone that this machine is set to.\"\"\"
    return str(datetime.now().astimezone().tzinfo)
"""
"""The file that the app gets beside it where it asks for the time."""
_QUERY = {"query": {"type": "string", "description": "What is looked for."}}


def tool(entry: Entry, kind: str) -> dict[str, Any] | None:
    """The entry of `tools` that a function becomes; `None` where it has none, which is told."""
    made = _FUNCTIONS.get(kind)
    if made is not None:
        found = made(entry)
        _common(entry)
        entry.rest("the counterpart has no such option")
        return found
    entry.whole(_missing(entry, kind))
    return None


def group(entry: Entry, guards: Mapping[str, Any]) -> dict[str, Any] | None:
    """The entry of `tools` that a group of functions becomes; `None` where it has none.

    Args:
        guards: the file's `authentication`, by name.
    """
    kind = entry.type
    if kind in ("mcp_client", "per_user_mcp_client"):
        found = _mcp(entry, guards, per_user=kind.startswith("per_user"))
        _common(entry)
        entry.rest("the counterpart has no such option")
        return found
    entry.whole(_GROUPS.get(kind) or _missing(entry, kind))
    return None


def _missing(entry: Entry, kind: str) -> str:
    if kind in _ELSEWHERE:
        return _ELSEWHERE[kind]
    return (
        f'code of the workflow\'s own ("{kind}"): make it a plain function in a module beside '
        f"app.yml, with its options as defaults, and add tools: {{{entry.name}: {{kind: python, "
        f'functions: ["MODULE:{entry.name}"]}}}}'
    )


def _common(entry: Entry) -> None:
    """Keys that every function of NAT may have."""
    entry.moot("description", "the tool says itself what it does")
    entry.moot("verbose", "every call is in the trace")
    entry.moot("name", "tools are called as they stand in the file")
    entry.todo("middleware", "put what it guards against into the tool's limits, or around it")


def _clock(entry: Entry) -> dict[str, Any]:
    kind = entry.type
    return {"kind": "python", "functions": [f"clock:{kind}"]}


def _wikipedia(entry: Entry) -> dict[str, Any]:
    request = {
        "description": "Searches Wikipedia.",
        "url": "https://en.wikipedia.org/w/api.php",
        "query": {
            "action": "query",
            "list": "search",
            "format": "json",
            "srsearch": "{query}",
            "srlimit": int(entry.number("max_results") or 2),
        },
        "parameters": _QUERY,
    }
    return {"kind": "http", "requests": {entry.name: request}}


def _tavily(entry: Entry) -> dict[str, Any]:
    request = {
        "description": "Searches the web.",
        "method": "POST",
        "url": "https://api.tavily.com/search",
        "body": {"query": "{query}", "max_results": int(entry.number("max_results") or 3)},
        "parameters": _QUERY,
        "effects": "none",
    }
    key = entry.secret("api_key", "TAVILY_API_KEY")
    return {
        "kind": "http",
        "requests": {entry.name: request},
        "auth": {"kind": "bearer", "token": key},
    }


def _exa(entry: Entry) -> dict[str, Any]:
    request = {
        "description": "Searches the web.",
        "method": "POST",
        "url": "https://api.exa.ai/search",
        "body": {
            "query": "{query}",
            "numResults": int(entry.number("max_results") or 5),
            "type": entry.text("search_type") or "auto",
            "contents": {"text": True},
        },
        "parameters": _QUERY,
        "effects": "none",
    }
    key = entry.secret("api_key", "EXA_API_KEY")
    return {
        "kind": "http",
        "requests": {entry.name: request},
        "auth": {"kind": "key", "key": key, "name": "x-api-key"},
    }


def _serp(entry: Entry) -> dict[str, Any]:
    request = {
        "description": "Searches the web.",
        "url": "https://serpapi.com/search.json",
        "query": {"q": "{query}", "num": int(entry.number("max_results") or 5)},
        "parameters": _QUERY,
    }
    key = entry.secret("api_key", "SERP_API_KEY")
    return {
        "kind": "http",
        "requests": {entry.name: request},
        "auth": {"kind": "key", "key": key, "name": "api_key", "place": "query"},
    }


def _code(entry: Entry) -> dict[str, Any]:
    """NAT asks a sandbox server; ours needs none."""
    made: dict[str, Any] = {"kind": "program"}
    seconds = entry.number("timeout")
    if seconds:
        made["timeout_s"] = seconds
    chars = entry.number("max_output_characters")
    if chars:
        made["result_chars"] = int(chars)
    entry.moot("uri", "nothing to serve: programs run in a sandbox on this machine")
    entry.moot("sandbox_type", "nothing to choose: programs run in a sandbox on this machine")
    return made


def _sql(entry: Entry) -> dict[str, Any]:
    made: dict[str, Any] = {"kind": "sql", "url": "${DATABASE_URL}"}
    url = entry.take_raw("connection_url")
    if isinstance(url, str) and "://" in url and "@" not in url:
        made["url"] = url
    else:
        made["url"] = entry_url(url)
    if entry.number("max_rows"):
        made["rows"] = int(entry.number("max_rows") or 200)
    entry.moot("database_type", "the URL says it")
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
    _common(entry)
    entry.rest("the counterpart has no such option")
    return made


def entry_url(url: Any) -> str:
    """A database's URL as it may stand in a file: by a variable."""
    return url if isinstance(url, str) and url.startswith("${") else "${DATABASE_URL}"


def _mcp_tool(entry: Entry) -> dict[str, Any]:
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


def _mcp(entry: Entry, guards: Mapping[str, Any], *, per_user: bool) -> dict[str, Any]:
    server = entry.entry("server")
    made: dict[str, Any] = {"kind": "mcp"}
    transport = server.text("transport") or "streamable-http"
    if transport == "stdio" or "command" in server:
        made["command"] = [server.text("command") or "PROGRAM", *server.names("args")]
        env = server.take_raw("env")
        if isinstance(env, Mapping):
            made["env"] = {str(key): str(value) for key, value in env.items()}
    else:
        made["url"] = server.text("url") or "https://HOST/mcp"
    if transport == "sse":
        server.written.tell(
            (*server.where, "transport"),
            "MCP has no SSE any more: serve with streamable HTTP, and give that address",
            act=True,
        )
    headers = server.take_raw("custom_headers")
    if isinstance(headers, Mapping):
        made["headers"] = {str(key): str(value) for key, value in headers.items()}
    provider = server.text("auth_provider")
    if provider:
        _authorised(server, made, provider, guards)
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
    server.rest("the counterpart has no such option")
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


def _authorised(
    server: Entry, made: dict[str, Any], provider: str, guards: Mapping[str, Any]
) -> None:
    guard = guards.get(provider)
    kind = str(guard.get("_type")) if isinstance(guard, Mapping) else ""
    if kind == "api_key" and isinstance(guard, Mapping):
        header = str(guard.get("custom_header_name") or "Authorization")
        made["headers"] = {**made.get("headers", {}), header: "${MCP_TOKEN}"}
        what = f'export MCP_TOKEN, with "Bearer " before the key where {header} wants it'
    else:
        made["as_caller"] = True
        what = "callers' own tokens are passed on (as_caller); nobody is sent to a login page"
    server.written.tell((*server.where, "auth_provider"), what, act=True)


_FUNCTIONS: dict[str, Callable[[Entry], dict[str, Any]]] = {
    "current_datetime": _clock,
    "current_timezone": _clock,
    "wiki_search": _wikipedia,
    "tavily_internet_search": _tavily,
    "exa_internet_search": _exa,
    "serp_api_tool": _serp,
    "code_execution": _code,
    "execute_db_query": _sql,
    "mcp_tool_wrapper": _mcp_tool,
}
_SEARCH = (
    "nothing of ours searches documents by meaning yet: put the search behind an address and add "
    "tools: {NAME: {kind: http, requests: …}}, or bring its client in as a function (kind: python)"
)
_SAMPLES = "ask several times and take what most say: agents: {NAME: {kind: vote, agents: […]}}"
_ELSEWHERE = {
    "nat_retriever": _SEARCH,
    "aiq_retriever": _SEARCH,
    "milvus_document_search": _SEARCH,
    "nvidia_rag": _SEARCH,
    "webpage_query": _SEARCH,
    "text2sql": "an agent with tools: {db: {kind: sql, url: …}} writes the queries by itself",
    "github_files_tool": "GitHub's MCP server has it: tools: {github: {kind: mcp, url: "
    "https://api.githubcopilot.com/mcp/, headers: {Authorization: ${GITHUB_TOKEN}}}}",
    "current_request_attributes": "a tool sees the caller by kickwheel.agents.caller, not headers",
    "execute_score_select_function": _SAMPLES,
    "multi_llm_judge_function": _SAMPLES,
    "plan_select_execute_function": "agents: {NAME: {kind: plan, model: …, agents: […]}}",
    "ttc_tool_orchestration": _SAMPLES,
    "ttc_tool_wrapper": _SAMPLES,
    "prompt_init": "no prompts are searched here; traffic tunes a model instead (flywheel)",
    "prompt_recombiner": "no prompts are searched here; traffic tunes a model instead (flywheel)",
}
_GROUPS = {
    "github": _ELSEWHERE["github_files_tool"],
    "nat_rag": _SEARCH,
    "a365_mcp_tooling": "add each server: tools: {NAME: {kind: mcp, url: …, as_caller: true}}",
}
