"""The files of a folder as resources: `files://<entry of tools>/<path>`."""

import base64
from collections.abc import Iterator
from itertools import islice
from mimetypes import guess_type
from urllib.parse import quote, unquote, urlsplit

from mcp_types import BlobResourceContents, Resource, TextResourceContents

from kickwheel.agents.tools.files import whole
from kickwheel.agents.tools.threads import in_thread
from kickwheel.agents.tools.tree import Pattern, walk
from kickwheel.core.errors import UsageError
from kickwheel.core.plugins import nearest
from kickwheel.serve.mcp.offer import Shelf

SCHEME = "files"
LISTED = 500
"""Resources on one page."""
LARGEST = 4 << 20
"""Bytes of a file that is read at once at most; larger ones are for the tool that reads pages."""

Contents = TextResourceContents | BlobResourceContents


async def listed(shelves: tuple[Shelf, ...], start: int) -> list[Resource]:
    """The files from number `start` on: `LISTED` of them, and one more where there are more."""
    return await in_thread(lambda: list(islice(_all(shelves), start, start + LISTED + 1)))


async def read(shelves: tuple[Shelf, ...], uri: str) -> Contents:
    """What stands in the file.

    Raises:
        UsageError: the URI leads to no folder that is offered.
        InvalidArguments: there is no such file, or it lies outside the folder.
        ToolError: it is too large.
    """
    parts = urlsplit(uri)
    known = {quote(shelf.name, safe=""): shelf for shelf in shelves}
    if parts.scheme != SCHEME or parts.netloc not in known:
        raise UsageError(f"no resource {uri[:200]} here. {nearest(parts.netloc, known)}")
    shelf, path = known[parts.netloc], unquote(parts.path, errors="surrogateescape")
    found = await in_thread(
        lambda: whole(shelf.root, path.removeprefix("/"), shelf.encoding, LARGEST)
    )
    kind = guess_type(path)[0]
    if isinstance(found, str):
        return TextResourceContents(uri=uri, mime_type=kind or "text/plain", text=found)
    blob = base64.b64encode(found).decode()
    return BlobResourceContents(uri=uri, mime_type=kind or "application/octet-stream", blob=blob)


def _all(shelves: tuple[Shelf, ...]) -> Iterator[Resource]:
    for shelf in shelves:
        for entry in walk(shelf.root, "", Pattern("**/*")):
            if entry.kind == "file":
                path = quote(entry.path.encode("utf-8", "surrogateescape"))
                yield Resource(
                    uri=f"{SCHEME}://{quote(shelf.name, safe='')}/{path}",
                    name=entry.path.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
                    mime_type=guess_type(entry.path)[0],
                    size=entry.size,
                )
