"""What an MCP server has beside tools, as tools: its resources and its prompts, listed and read.

A prompt is a text of the server's, with holes for arguments. Here it is data like any other result:
a stranger's text never becomes an agent's instructions by itself.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Literal

from kickwheel.agents.tools.mcp_answer import block, contents
from kickwheel.agents.tools.mcp_link import Link
from kickwheel.agents.tools.tool import InvalidArguments, Limits, Tool, safe, takes
from kickwheel.records import ToolSpec

if TYPE_CHECKING:
    from mcp import Client

ABOUT_CHARS = 300
"""Characters of a description in a list at most."""

What = Literal["resources", "prompts"]
_Linked = Callable[[], AbstractAsyncContextManager[Link]]


def more_tools(what: What, name: str, linked: _Linked, limits: Limits) -> list[Tool]:
    """The tools that list and read the server's resources, or its prompts.

    Args:
        name: of the box; their names begin with it.
        linked: the connection for the caller, kept while the block runs.
    """
    if what == "resources":
        return [
            _More(f"{name}_list_resources", _LIST_RESOURCES, limits, linked, _resources),
            _More(f"{name}_read_resource", _READ_RESOURCE, limits, linked, _resource),
        ]
    return [
        _More(f"{name}_list_prompts", _LIST_PROMPTS, limits, linked, _prompts),
        _More(f"{name}_read_prompt", _READ_PROMPT, limits, linked, _prompt),
    ]


class _More:
    def __init__(
        self,
        name: str,
        spec: ToolSpec,
        limits: Limits,
        linked: _Linked,
        read: Callable[["Client", Mapping[str, Any]], Awaitable[str]],
    ) -> None:
        self.spec = ToolSpec(
            name=safe(name), description=spec.description, parameters=spec.parameters
        )
        self.limits = limits
        self._linked = linked
        self._read = read

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """What the server says."""
        async with self._linked() as link:
            return link.clean(await link.ask(lambda client: self._read(client, arguments)))


async def _resources(client: "Client", asked: Mapping[str, Any]) -> str:
    cursor = asked.get("cursor") or None
    page = await client.list_resources(cursor=cursor, cache_mode="refresh")
    lines = [
        _line(one.uri, one.title or one.name, one.mime_type, one.description)
        for one in page.resources
    ]
    if cursor is None:
        lines += await _templates(client)
    return _page(lines, page.next_cursor)


async def _templates(client: "Client") -> list[str]:
    from mcp import MCPError
    from mcp_types import METHOD_NOT_FOUND

    try:
        found = await client.list_resource_templates(cache_mode="refresh")
    except MCPError as error:
        if error.code == METHOD_NOT_FOUND:
            return []
        raise
    return [
        _line(one.uri_template, one.title or one.name, one.mime_type, one.description)
        for one in found.resource_templates
    ]


async def _resource(client: "Client", asked: Mapping[str, Any]) -> str:
    found = await client.read_resource(asked["uri"], cache_mode="refresh")
    if len(found.contents) == 1 and (text := getattr(found.contents[0], "text", None)) is not None:
        return str(text)
    return "\n".join(contents(one) for one in found.contents) or "(nothing)"


async def _prompts(client: "Client", asked: Mapping[str, Any]) -> str:
    page = await client.list_prompts(cursor=asked.get("cursor") or None, cache_mode="refresh")
    lines = []
    for prompt in page.prompts:
        holes = ", ".join(
            hole.name if hole.required else f"[{hole.name}]" for hole in prompt.arguments or ()
        )
        lines.append(_line(f"{prompt.name}({holes})", prompt.title or "", None, prompt.description))
    return _page(lines, page.next_cursor)


async def _prompt(client: "Client", asked: Mapping[str, Any]) -> str:
    given = asked.get("arguments") or {}
    if not all(isinstance(value, str) for value in given.values()):
        raise InvalidArguments("the arguments of a prompt are texts")
    found = await client.get_prompt(asked["name"], dict(given))
    return "\n\n".join(f"{said.role}: {block(said.content)}" for said in found.messages)


def _page(lines: list[str], cursor: str | None) -> str:
    if cursor is not None:
        lines = [*lines, f"(there is more: ask again with cursor={cursor})"]
    return "\n".join(lines) or "nothing there"


def _line(name: str, title: str, kind: str | None, about: str | None) -> str:
    words = [f"({kind})" if kind else "", " ".join((about or "").split())[:ABOUT_CHARS]]
    return " ".join(filter(None, [name, title if title != name else "", *words]))


_CURSOR = {"type": "string", "description": "Where the list before ended."}
_LIST_RESOURCES = ToolSpec(
    name="", description="Lists resources, a URI a line.", parameters=takes(cursor=_CURSOR)
)
_READ_RESOURCE = ToolSpec(
    name="",
    description="Reads a resource.",
    parameters=takes("uri", uri={"type": "string", "description": "As listed."}),
)
_LIST_PROMPTS = ToolSpec(
    name="",
    description="Lists prepared texts and their arguments.",
    parameters=takes(cursor=_CURSOR),
)
_READ_PROMPT = ToolSpec(
    name="",
    description="Reads a prepared text with its arguments filled in.",
    parameters=takes(
        "name",
        name={"type": "string", "description": "As listed, without the arguments."},
        arguments={
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "By name; those in brackets may be left out.",
        },
    ),
)
