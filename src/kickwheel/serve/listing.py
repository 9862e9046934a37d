"""Lists in pages, as OpenAI's clients turn them: `after`, `limit`, `order`, `has_more`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request

from kickwheel.serve.errors import Refused

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted."""

    after: str | None
    """Id of the last entry of the page before."""
    limit: int
    oldest_first: bool


def read_page(request: Request, *, most: int = 100, usual: int = 20) -> Page:
    """The part that the request wants.

    Raises:
        Refused: `limit` or `order` is wrong (400).
    """
    query = request.query_params
    said = query.get("limit", str(min(usual, most)))
    limit = count(said)
    if limit is None or not 1 <= limit <= most:
        raise Refused(400, f"limit must be from 1 to {most}, not {said}", param="limit")
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise Refused(400, f'order must be "asc" or "desc", not "{order}"', param="order")
    return Page(query.get("after"), limit, order == "asc")


def count(text: str) -> int | None:
    """The number that a text from a query is; `None` where it is none, or far too large."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def page(
    newest_first: Sequence[T],
    wanted: Page,
    identity: Callable[[T], str],
    shown: Callable[[T], dict[str, Any]],
) -> dict[str, Any]:
    """That part of the list, as OpenAI's clients read it.

    Raises:
        Refused: `after` is not in the list (400).
    """
    entries = list(reversed(newest_first) if wanted.oldest_first else newest_first)
    start = 0
    if wanted.after is not None:
        places = [i for i, entry in enumerate(entries) if identity(entry) == wanted.after]
        if not places:
            raise Refused(400, f'after: nothing here has the id "{wanted.after}"', param="after")
        start = places[0] + 1
    part = entries[start : start + wanted.limit]
    return {
        "object": "list",
        "data": [shown(entry) for entry in part],
        "first_id": identity(part[0]) if part else None,
        "last_id": identity(part[-1]) if part else None,
        "has_more": start + wanted.limit < len(entries),
    }
