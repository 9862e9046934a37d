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


@asynccontextmanager
async def opened(
    part: ToolPart, folder: Path, name: str = "desk"
) -> AsyncIterator[dict[str, Tool]]:
    """The part's tools by name."""
    shared: dict[Any, Any] = {}
    async with AsyncExitStack() as stack:

        async def share(key: Any, make: Any) -> Any:
            if key not in shared:
                shared[key] = await stack.enter_async_context(make())
            return shared[key]

        store = stack.enter_context(open_store(folder / "store"))
        box = await stack.enter_async_context(part.open(Context(name, folder, store, share=share)))
        yield {tool.spec.name: tool for tool in box}
