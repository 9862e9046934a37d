"""NAT's `functions` and `function_groups` that are tools, as ours.

A function is mostly code of the workflow's own, registered under a name: that code stays where it
is, and only how to bring it in can be told.
"""

from collections.abc import Callable, Mapping
from typing import Any

from kickwheel.agents.nat.servers import common, one_tool, server
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
        common(entry)
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
        found = server(entry, guards, per_user=kind.startswith("per_user"))
        common(entry)
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
        made["url"] = _database(url)
    if entry.number("max_rows"):
        made["rows"] = int(entry.number("max_rows") or 200)
    entry.moot("database_type", "the URL says it")
    return made


def _database(url: Any) -> str:
    """A database's URL as it may stand in a file: by a variable."""
    return url if isinstance(url, str) and url.startswith("${") else "${DATABASE_URL}"


_FUNCTIONS: dict[str, Callable[[Entry], dict[str, Any]]] = {
    "current_datetime": _clock,
    "current_timezone": _clock,
    "wiki_search": _wikipedia,
    "tavily_internet_search": _tavily,
    "exa_internet_search": _exa,
    "serp_api_tool": _serp,
    "code_execution": _code,
    "execute_db_query": _sql,
    "mcp_tool_wrapper": one_tool,
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
