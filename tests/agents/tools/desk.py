"""What tests of tools need around them: a part that is open, and a service on the loopback."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext
from typing import Any

from aiohttp import web
from tests.agents.tools import opening

from kickwheel.agents.tools import Tool, ToolPart, calling
from kickwheel.core.config import check, read_yaml
from kickwheel.core.errors import Mistake
from kickwheel.records import ToolCall

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def opened(
    kind: type[ToolPart], folder: Path, /, **options: Any
) -> AsyncGenerator[dict[str, Tool]]:
    """The tools of a part, by name, as an app that calls it `desk` opens them."""

    async with opening.opened(kind.model_validate(options), folder) as tools:
        yield tools


def mistakes(kind: type[ToolPart], yaml: str, folder: Path) -> list[str]:
    """What `kickwheel check` says of options, with lines."""
    (folder / "part.yml").write_text(yaml, encoding="utf-8")
    document = read_yaml(folder / "part.yml")
    found: list[Mistake] = []
    check(document, (), document.data, kind, found)
    return [f"{m.line}: {m.where}: {m.what}" for m in found]


async def call(tools: Mapping[str, Tool], name: str, arguments: str = "{}") -> calling.Result:
    """The result of a call as a model would write it."""
    return await calling.call(tools, ToolCall(id="1", name=name, arguments=arguments))


@dataclass(frozen=True)
class Asked:
    """A request as it came over the wire."""

    method: str
    path: str
    """With the query, as it was encoded."""
    headers: Mapping[str, str]
    body: str


@dataclass
class Service:
    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    @property
    def last(self) -> Asked:
        return self.asked[-1]


@asynccontextmanager
async def service(handler: Handler, tls: SSLContext | None = None) -> AsyncGenerator[Service]:
    """A service on the loopback that notes what it is asked."""
    found = Service()

    async def noted(request: web.Request) -> web.StreamResponse:
        body = (await request.read()).decode("utf-8", "replace")
        found.asked.append(Asked(request.method, request.raw_path, dict(request.headers), body))
        return await handler(request)

    runner = web.AppRunner(_app(noted), handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    found.url = f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield found
    finally:
        await runner.cleanup()


def _app(handler: Handler) -> web.Application:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    return app
