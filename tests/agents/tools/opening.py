"""Parts of the shelf `tools`, opened as an app opens them."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from kickwheel.agents.tools import Tool, ToolPart
from kickwheel.core.plugins import Context
from kickwheel.core.store import open_store


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, as sandboxed programs must."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


class Shared:
    """What parts share, until the stack is closed."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._made: dict[Any, Any] = {}

    async def __call__(self, key: Any, make: Any) -> Any:
        if key not in self._made:
            self._made[key] = await self._stack.enter_async_context(make())
        return self._made[key]


@asynccontextmanager
async def opened(
    part: ToolPart, folder: Path, name: str = "desk", share: Shared | None = None
) -> AsyncIterator[dict[str, Tool]]:
    """The part's tools by name."""
    async with AsyncExitStack() as stack:
        share = share or Shared(stack)
        store = stack.enter_context(open_store(folder / "store"))
        box = await stack.enter_async_context(part.open(Context(name, folder, store, share=share)))
        yield {tool.spec.name: tool for tool in box}
