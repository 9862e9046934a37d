"""One Chromium for all, started when it is first needed and again when it has died."""

import asyncio
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kickwheel.agents.tools.workspace import NOBODY
from kickwheel.core.errors import MissingExtra, ToolError, UsageError

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Playwright

_log = logging.getLogger(__name__)

_ARGUMENTS = (
    # What would not go through the proxy.
    "--disable-quic",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--dns-prefetch-disable",
)


class Chromium:
    """A browser that contexts are opened in."""

    def __init__(self, playwright: "Playwright", program: Path, home: Path) -> None:
        self._playwright = playwright
        self._program = program
        self._home = home
        self._browser: Browser | None = None
        self._starting = asyncio.Lock()

    async def context(self, **options: Any) -> "BrowserContext":
        """A new context: windows, cookies and storage of its own.

        Raises:
            ToolError: the browser does not start.
        """
        async with self._starting:
            if self._browser is None or not self._browser.is_connected():
                self._browser = await self._launch()
        return await self._browser.new_context(**options)

    async def close(self) -> None:
        """Ends the browser."""
        if self._browser is not None:
            await self._browser.close()

    async def _launch(self) -> "Browser":
        from playwright.async_api import Error

        try:
            return await self._start(sandbox=True)
        except Error as error:
            if "sandboxing failed" not in str(error):
                raise ToolError(f"Chromium does not start: {_first_line(error)}") from error
            _log.warning("Chromium cannot isolate pages with its own sandbox here; it runs without")
        try:
            return await self._start(sandbox=False)
        except Error as error:
            raise ToolError(f"Chromium does not start: {_first_line(error)}") from error

    async def _start(self, *, sandbox: bool) -> "Browser":
        home = str(self._home)
        return await self._playwright.chromium.launch(
            executable_path=self._program,
            headless=True,
            chromium_sandbox=sandbox,
            args=list(_ARGUMENTS),
            # Nothing of our environment: pages may find ways to read it.
            env={"PATH": "/usr/bin:/bin", "HOME": home, "TMPDIR": home, "LANG": "C.UTF-8"},
            handle_sigint=False,
            handle_sigterm=False,
            handle_sighup=False,
        )


@asynccontextmanager
async def open_chromium(executable: Path) -> AsyncGenerator[Chromium]:
    """The browser, closed when the block ends.

    Raises:
        MissingExtra: Playwright is not installed.
    """
    try:
        from playwright.async_api import async_playwright
    except ImportError as error:
        raise MissingExtra("working in a browser", "browser") from error
    async with AsyncExitStack() as stack:
        playwright = await stack.enter_async_context(async_playwright())
        # Whatever of the browser is still ending must not fail the close.
        temporary = tempfile.TemporaryDirectory(prefix="kickwheel-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(temporary))
        home = folder / "home"
        home.mkdir()
        program = _launcher(folder, home, executable) if os.geteuid() == 0 else executable
        chromium = Chromium(playwright, program, home)
        stack.push_async_callback(chromium.close)
        yield chromium


def find_chromium(named: Path | None) -> Path:
    """The browser that was named, or the system's own.

    Raises:
        UsageError: there is none.
    """
    names = [str(named)] if named else ["chromium", "chromium-browser", "google-chrome"]
    for name in names:
        found = shutil.which(name)
        if found:
            return Path(found)
    missing = f"{named} is no program" if named else "Chromium is missing"
    raise UsageError(f"{missing} (Debian: apt-get install chromium), or name one with chromium:")


def _launcher(folder: Path, home: Path, executable: Path) -> Path:
    """A program that starts Chromium as a user without rights: as root, its own sandbox is off."""
    folder.chmod(0o755)
    os.chown(home, NOBODY, NOBODY)
    launcher = folder / "chromium"
    launcher.write_text(
        "#!/bin/sh\n"
        "for word; do case $word in\n"
        f'  --user-data-dir=*) chown -R {NOBODY}:{NOBODY} "${{word#*=}}" ;;\n'
        "esac; done\n"
        f"exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups -- '{executable}' \"$@\"\n"
    )
    launcher.chmod(0o755)
    return launcher


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
