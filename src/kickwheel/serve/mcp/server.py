"""The methods of the protocol: list and call tools, list and read resources.

What goes wrong in a call is its result, marked as an error, so that a model may read it; only what
was never a call here (an unknown tool or resource, a wrong cursor) is the protocol's own error.
"""

import logging
from importlib.metadata import version
from typing import Any, NoReturn

from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    InputRequiredResult,
    ListResourcesResult,
    ListToolsResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    TextContent,
    Tool,
    ToolAnnotations,
)

from kickwheel.agents.offered import Offered, OfferedAgent
from kickwheel.core import redact
from kickwheel.core.errors import KickwheelError, UsageError
from kickwheel.core.identity import fresh
from kickwheel.models.caller import NOBODY, Caller, acting_for
from kickwheel.serve.errors import refusal
from kickwheel.serve.mcp import files, work
from kickwheel.serve.mcp.offer import Offer

Context = ServerRequestContext[Any, Any]

_log = logging.getLogger(__name__)


def server(offer: Offer) -> Server[Any]:
    """The server of what is offered, for any transport."""
    methods = _Methods(offer)
    shelves = bool(offer.shelves)
    return Server(
        offer.app.plan.folder.name or "kickwheel",
        version=version("kickwheel"),
        on_list_tools=methods.tools,
        on_call_tool=methods.call,
        on_list_resources=methods.resources if shelves else None,
        on_read_resource=methods.read if shelves else None,
    )


class _Methods:
    def __init__(self, offer: Offer) -> None:
        self._offer = offer

    async def tools(
        self, context: Context, params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        """All tools and agents, on one page."""
        return ListToolsResult(tools=[_tool(one) for one in self._offer.tools().values()])

    async def call(
        self, context: Context, params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult:
        """What a tool or agent says, or what a person is asked first."""
        try:
            one = self._offer.tool(params.name)
        except UsageError as error:
            _wrong(error)
        who = _who(context)
        try:
            if isinstance(one, OfferedAgent):
                said = await work.agent(self._offer.app, one, params, context, who)
            else:
                with acting_for(who):
                    said = await work.tool(one, params, context)
        except work.UnknownState as error:
            _wrong(error)
        except MCPError:
            raise
        except Exception as error:
            told = refusal(error, f"mcp-{fresh(8)}").message
            return _result(redact.text(told), failed=True)
        return said if isinstance(said, InputRequiredResult) else _result(said)

    async def resources(
        self, context: Context, params: PaginatedRequestParams | None
    ) -> ListResourcesResult:
        """A page of files."""
        cursor = (params.cursor if params is not None else None) or "0"
        if not cursor.isdecimal() or len(cursor) > 9:
            _wrong(UsageError(f'no page "{cursor[:50]}": a cursor is one that a list ended with'))
        start = int(cursor)
        found = await files.listed(self._offer.shelves, start)
        more = str(start + files.LISTED) if len(found) > files.LISTED else None
        return ListResourcesResult(resources=found[: files.LISTED], next_cursor=more)

    async def read(self, context: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        """What stands in a file."""
        try:
            return ReadResourceResult(contents=[await files.read(self._offer.shelves, params.uri)])
        except (KickwheelError, ValueError) as error:
            _wrong(error)
        except OSError as error:
            _log.warning("%s cannot be read: %s", params.uri[:200], error)
            _wrong(UsageError(f"{params.uri[:200]} cannot be read: {error.strerror}"))


def _tool(one: Offered) -> Tool:
    spec = one.spec
    about = None
    if one.effects is not None:
        reads = one.effects == "none"
        about = ToolAnnotations(read_only_hint=reads, idempotent_hint=one.effects != "once")
    return Tool(
        name=spec.name,
        description=spec.description or None,
        input_schema=dict(spec.parameters),
        annotations=about,
    )


def _who(context: Context) -> Caller:
    """Who asks: the holder of the key over HTTP, nobody in particular over pipes."""
    if context.request is None:
        return NOBODY
    who: Caller = context.request.state.caller
    return who


def _result(text: str, *, failed: bool = False) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=failed)


def _wrong(error: Exception) -> NoReturn:
    raise MCPError(INVALID_PARAMS, redact.text(str(error))) from error
