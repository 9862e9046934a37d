"""What one request does in the browser: its windows, what happens in them, what is seen."""

import asyncio
import difflib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from kickwheel.agents.tools.chromium import Chromium
from kickwheel.agents.tools.proxy import Places, Proxy
from kickwheel.agents.tools.tool import InvalidArguments
from kickwheel.core.errors import ToolError

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Dialog, Download, Locator, Page, Response

T = TypeVar("T")

VIEW = {"width": 1280, "height": 800}
"""Size of a window in CSS pixels."""
_WINDOWS = 5
_ACT_S = 5.0
"""Until an element must have come into a state in which it can be acted upon."""
_SETTLE_S = 0.15
"""For scripts to react to what was done."""
_SEEN_CHARS = 400_000
_CLOSE_S = 5.0
_BUSY = "the page keeps the browser busy; its window was closed"

_closing: set[asyncio.Task[None]] = set()


class Browsing:
    """The windows of one request; one call at a time."""

    def __init__(
        self, context: "BrowserContext", places: Places, time_s: float, depth: int
    ) -> None:
        self._context = context
        self._places = places
        self._time_s = time_s
        self._depth = depth
        self._page: Page | None = None
        self._left: set[Page] = set()
        self._happened: list[str] = []
        self._seen: tuple[str, str] = ("", "")
        self._lock = asyncio.Lock()
        context.on("page", self._on_page)
        context.on("dialog", self._on_dialog)

    async def open(self, url: str) -> str:
        """What the page at that address shows."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            host = None
        if not host or parts.scheme not in ("http", "https"):
            raise InvalidArguments(f'"{url}" is no address: it begins with http:// or https://')
        # The proxy asks once more; here the reason can be told.
        await self._places.addresses(host, port)

        async def act(page: "Page") -> None:
            self._note_status(await page.goto(url, wait_until="domcontentloaded"))

        return await self._do(act, loading=True)

    async def click(self, ref: str) -> str:
        """What changed after a click."""
        return await self._do(lambda page: self._at(page, ref, lambda it: it.click()))

    async def type(self, ref: str, text: str, enter: bool) -> str:
        """What changed after the text was put into a field, instead of what was there."""

        async def act(it: "Locator") -> None:
            await it.fill(text)
            if enter:
                await it.press("Enter")

        return await self._do(lambda page: self._at(page, ref, act))

    async def select(self, ref: str, option: str) -> str:
        """What changed after an option of a list was chosen."""
        return await self._do(lambda page: self._at(page, ref, lambda it: it.select_option(option)))

    async def press(self, key: str) -> str:
        """What changed after a key was pressed."""
        return await self._do(lambda page: page.keyboard.press(key))

    async def back(self) -> str:
        """What the page before shows; a window without one is closed."""

        async def act(page: "Page") -> None:
            before = page.url
            await page.go_back(wait_until="domcontentloaded")
            if page.url not in (before, "about:blank"):
                return
            others = [p for p in self._context.pages if p is not page and p not in self._left]
            if others:
                self._page = others[-1]
                self._leave(page)
                self._happened.append("the window was closed; this is the one below it")
            else:
                self._happened.append("there is no page before this one")

        return await self._do(act, loading=True)

    async def look(self, ref: str | None, full: bool) -> str:
        """The page, or a part of it, as it is now."""

        async def see(page: "Page") -> str:
            if ref is not None:
                return await self._at(page, ref, lambda it: it.aria_snapshot(mode="ai"))
            return await self._snapshot(page, None if full else self._depth)

        text = await self._with_page(see)
        return f"{await self._head()}\n{text}"

    async def read(self, ref: str | None) -> str:
        """The text of the page, or of a part of it."""
        return await self._with_page(
            lambda page: (
                self._at(page, ref, lambda it: it.inner_text())
                if ref is not None
                else page.locator("body").inner_text()
            )
        )

    async def screenshot(self) -> bytes:
        """What the window shows, as JPEG."""
        return await self._with_page(
            lambda page: page.screenshot(type="jpeg", quality=70, timeout=1000 * self._time_s)
        )

    async def _do(self, act: Callable[["Page"], Awaitable[Any]], *, loading: bool = False) -> str:
        """Does it, and tells what happened and what is different."""
        from playwright.async_api import TimeoutError as TooLong

        async def acted(page: "Page") -> str:
            before = page.url
            try:
                await act(page)
            except TooLong as error:
                if not loading:
                    raise
                if page.url == before:
                    self._leave(page)
                    raise ToolError(f"nothing came within {self._time_s:g} s") from error
                self._happened.append(f"it was not loaded after {self._time_s:g} s")
            await asyncio.sleep(_SETTLE_S)
            now = self._page or page
            with suppress(TooLong):
                await now.wait_for_load_state("domcontentloaded", timeout=1000)
            return await self._difference(now)

        told = await self._with_page(acted)
        return f"{await self._head()}\n{told}"

    async def _with_page(self, act: Callable[["Page"], Awaitable[T]]) -> T:
        """The result of `act`; a window in which it was cancelled is closed."""
        from playwright.async_api import Error
        from playwright.async_api import TimeoutError as TooLong

        async with self._lock:
            page = await self._window()
            try:
                async with asyncio.timeout(self._time_s + 2):
                    return await act(page)
            except asyncio.CancelledError:
                self._leave(page)
                raise
            except TimeoutError as error:
                self._leave(page)
                raise ToolError(_BUSY) from error
            except Error as error:
                if page.is_closed():
                    self._page = None
                    raise ToolError("the window was closed; open a page again") from error
                if isinstance(error, TooLong) and not await _answers(page):
                    self._leave(page)
                    raise ToolError(_BUSY) from error
                raise ToolError(self._explained(error)) from error

    async def _window(self) -> "Page":
        if self._page is None or self._page.is_closed():
            others = [page for page in self._context.pages if page not in self._left]
            self._page = others[-1] if others else await self._context.new_page()
            self._seen = ("", "")
        return self._page

    def _leave(self, page: "Page") -> None:
        """Closes the window without waiting: it may not want to."""
        self._left.add(page)
        if page is self._page:
            self._page = None
            self._seen = ("", "")

        async def close() -> None:
            with suppress(Exception):
                async with asyncio.timeout(_CLOSE_S):
                    await page.close()

        task = asyncio.create_task(close())
        _closing.add(task)
        task.add_done_callback(_closing.discard)

    async def _at(self, page: "Page", ref: str, act: Callable[["Locator"], Awaitable[T]]) -> T:
        """The result of `act` on the element that a snapshot called `ref`."""
        from playwright.async_api import Error

        it = page.locator(f"aria-ref={ref}")
        try:
            there = await it.count()
        except Error:
            there = 0
        if not there:
            raise InvalidArguments(
                f'there is no element "{ref}" on the page as it is now; take one of the last '
                "snapshot, or look again"
            )
        return await act(it)

    async def _snapshot(self, page: "Page", depth: int | None) -> str:
        from playwright.async_api import TimeoutError as TooLong

        try:
            text = await page.aria_snapshot(mode="ai", depth=depth)
        except TooLong as error:
            raise TimeoutError from error
        return text if len(text) <= _SEEN_CHARS else f"{text[:_SEEN_CHARS]}\n[more is left out]"

    async def _difference(self, page: "Page") -> str:
        """The page, or what is different on it since it was last shown."""
        text = await self._snapshot(page, self._depth)
        url, before = self._seen
        self._seen = (page.url, text)
        if url != page.url:
            return text
        if before == text:
            return "[nothing changed]"
        changed = [
            line
            for line in difflib.unified_diff(before.split("\n"), text.split("\n"), n=0, lineterm="")
            if not line.startswith(("---", "+++", "@@"))
        ]
        short = "\n".join(changed)
        return f"[changed]\n{short}" if len(short) < len(text) else text

    async def _head(self) -> str:
        """Where the window is, and what happened meanwhile."""
        happened, self._happened = self._happened, []
        lines = [f"[{text}]" for text in happened]
        if self._page is not None and not self._page.is_closed():
            title = ""
            with suppress(Exception):
                async with asyncio.timeout(1):
                    title = await self._page.title()
            lines.append(f"[page: {title[:200]} {self._page.url[:500]}]")
        return "\n".join(lines)

    def _explained(self, error: Exception) -> str:
        text = str(error)
        if "ERR_TUNNEL_CONNECTION_FAILED" in text:
            return f"it leads to where nobody answers, or not to {', '.join(self._places.hosts)}"
        first, _, log = text.partition("\n")
        first = re.sub(r"^[A-Z]\w*\.\w+: ", "", first)
        blocked = [line.strip(" -") for line in log.splitlines() if "intercepts" in line]
        return f"{first} ({blocked[-1]})" if blocked else first

    def _note_status(self, response: "Response | None") -> None:
        if response is not None and response.status >= 400:
            self._happened.append(f"the answer was {response.status} {response.status_text}")

    def _on_page(self, page: "Page") -> None:
        page.set_default_timeout(1000 * min(_ACT_S, self._time_s))
        page.set_default_navigation_timeout(1000 * self._time_s)
        page.on("download", self._on_download)
        page.on("crash", lambda _: self._happened.append("the page crashed"))
        if self._page is None:
            return
        if len(self._context.pages) > _WINDOWS:
            self._happened.append("one more window was not opened")
            self._leave(page)
            return
        self._page = page
        self._happened.append("a new window opened, and is the one that you see; back closes it")

    async def _on_dialog(self, dialog: "Dialog") -> None:
        leaving = dialog.type == "beforeunload"
        with suppress(Exception):  # The page may be gone by now.
            await (dialog.accept() if leaving else dialog.dismiss())
        if not leaving:
            self._happened.append(f'the page showed "{dialog.message[:500]}", which was dismissed')

    async def _on_download(self, download: "Download") -> None:
        self._happened.append("the page offered a file to download, which was refused")
        with suppress(Exception):
            await download.cancel()


async def _answers(page: "Page") -> bool:
    """Whether scripts can run in the page, or one keeps all others out."""
    try:
        async with asyncio.timeout(1):
            await page.evaluate("1")
    except Exception:
        return False
    return True


@asynccontextmanager
async def browsing(
    chromium: Chromium, proxy: Proxy, time_s: float, depth: int
) -> AsyncGenerator[Browsing]:
    """Windows, cookies and storage that nobody else sees, gone when the block ends."""
    context = await chromium.context(
        viewport=VIEW,
        accept_downloads=False,
        service_workers="block",
        proxy={"server": proxy.url, "bypass": "<-loopback>"},
    )
    try:
        yield Browsing(context, proxy.places, time_s, depth)
    finally:
        with suppress(Exception):
            async with asyncio.timeout(_CLOSE_S):
                await context.close()
