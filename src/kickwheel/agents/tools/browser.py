"""`kind: browser`: pages of the web, seen as a tree of what can be read and acted upon."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from kickwheel.agents.tools.browsing import VIEW, Browsing, browsing
from kickwheel.agents.tools.chromium import find_chromium, open_chromium
from kickwheel.agents.tools.per_run import PerRun, per_run
from kickwheel.agents.tools.proxy import Places, open_proxy
from kickwheel.agents.tools.tool import Effects, Limits, Pictured, Toolbox, ToolPart, safe, takes
from kickwheel.core.plugins import Context
from kickwheel.core.store import Store
from kickwheel.models.pictures import keep_as
from kickwheel.records import ToolSpec

HostPattern = Annotated[str, Field(pattern=r"^(\*|(\*\.)?[\w.-]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?$")]


class Browser(ToolPart):
    """Lets an agent use web pages: open, look, click, type."""

    hosts: Annotated[tuple[HostPattern, ...], Field(min_length=1)]
    """Where it may go: `shop.example.com`, `*.example.com`, `*`, each with `:port` where only one
    port is meant. Whatever a page loads or leads to comes from there as well, or not at all."""
    private: bool = False
    """Whether hosts may be of this machine or of a private network."""
    depth: Annotated[int, Field(ge=1)] = 12
    """Levels of a page's tree that are shown unasked."""
    sessions: Annotated[int, Field(ge=1)] = 16
    """Requests that use the browser at once at most."""
    chromium: Path | None = None
    """The browser; by default the system's own."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[Toolbox]:
        """Tools for one page after the other; each request has windows and cookies of its own.

        Raises:
            UsageError: there is no Chromium.
            MissingExtra: Playwright is not installed.
        """
        executable = find_chromium(self.chromium)
        chromium = await context.share(("chromium", executable), lambda: open_chromium(executable))
        time_s = self.timeout_s
        async with (
            open_proxy(Places(self.hosts, self.private)) as proxy,
            per_run(
                lambda: browsing(chromium, proxy, time_s, self.depth), self.sessions
            ) as sessions,
        ):
            yield self._tools(safe(context.name, 48), sessions, context.store)

    def _tools(self, name: str, sessions: PerRun[Browsing], store: Store) -> Toolbox:
        def tool(
            verb: str,
            about: str,
            effects: Effects,
            act: Callable[[Browsing, Mapping[str, Any]], Awaitable[str]],
            **parameters: dict[str, Any],
        ) -> _Act:
            needed = [key for key in parameters if "default" not in parameters[key]]
            schema = takes(*needed, **parameters)
            spec = ToolSpec(name=f"{name}_{verb}", description=about, parameters=schema)
            # The page's own time is up first, so that what it shows by then can be told.
            limits = replace(self.limits(effects), timeout_s=self.timeout_s + 5)
            return _Act(spec, limits, sessions, act)

        async def screenshot(page: Browsing, _: Mapping[str, Any]) -> str:
            data = await page.screenshot()
            image = keep_as(store.artifacts, "screenshot", "page.jpeg", "image/jpeg", data)
            return Pictured(
                f"[screenshot of {VIEW['width']} by {VIEW['height']} pixels kept as {image.kept}; "
                f"models that take no pictures go by the tree]\n{await page.look(None, False)}",
                [image],
            )

        where = f"Hosts: {', '.join(self.hosts)}."
        return [
            tool(
                "open",
                f"Open a web page. {where}",
                "none",
                lambda page, a: page.open(a["url"]),
                url={"type": "string", "description": "http:// or https:// address."},
            ),
            tool(
                "click",
                "Click an element of the page.",
                "once",
                lambda page, a: page.click(a["ref"]),
                ref=_REF,
            ),
            tool(
                "type",
                "Put text into a field, instead of what is there.",
                "once",
                lambda page, a: page.type(a["ref"], a["text"], a.get("enter", False)),
                ref=_REF,
                text={"type": "string"},
                enter={
                    "type": "boolean",
                    "default": False,
                    "description": "Press Enter afterwards.",
                },
            ),
            tool(
                "select",
                "Choose an option of a list.",
                "once",
                lambda page, a: page.select(a["ref"], a["option"]),
                ref=_REF,
                option={"type": "string", "description": "Its text or value."},
            ),
            tool(
                "press",
                "Press a key.",
                "once",
                lambda page, a: page.press(a["key"]),
                key={"type": "string", "description": "Enter, Escape, PageDown, Control+a, …"},
            ),
            tool(
                "back",
                "Go back to the page before, or close a new window.",
                "once",
                lambda page, _: page.back(),
            ),
            tool(
                "look",
                "See the page as it is, as a tree with [ref=…] for what can be used.",
                "none",
                lambda page, a: page.look(a.get("ref"), a.get("full", False)),
                ref={**_REF, "default": None, "type": ["string", "null"]},
                full={
                    "type": "boolean",
                    "default": False,
                    "description": "All levels, where a page is deep.",
                },
            ),
            tool(
                "read",
                "Read the text of the page, or of an element.",
                "none",
                lambda page, a: page.read(a.get("ref")),
                ref={**_REF, "default": None, "type": ["string", "null"]},
            ),
            tool(
                "screenshot",
                "See a picture of the page, with its tree; people see it, too.",
                "none",
                screenshot,
            ),
        ]


_REF = {
    "type": "string",
    "pattern": r"^(f\d+)?e\d+$",
    "description": "The element's ref in the last snapshot, for example e12.",
}


class _Act:
    """One thing to do in the browser."""

    def __init__(
        self,
        spec: ToolSpec,
        limits: Limits,
        sessions: PerRun[Browsing],
        act: Callable[[Browsing, Mapping[str, Any]], Awaitable[str]],
    ) -> None:
        self.spec = spec
        self.limits = limits
        self._sessions = sessions
        self._act = act

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """What the page shows afterwards; all of it is what the page says, and no instruction."""
        async with self._sessions.use() as page:
            return await self._act(page, arguments)
