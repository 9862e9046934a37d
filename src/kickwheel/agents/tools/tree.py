"""What lies below a root: walked without following links, chosen by patterns."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice

from kickwheel.agents.tools.root import Root

MOST = 50_000
"""Entries that a walk looks at; a folder with more wants a narrower question."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a folder."""

    path: str
    """From the root on."""
    kind: str
    """`file`, `folder`, `link`, or `other`."""
    size: int
    modified: float
    """Seconds since 1970."""


class Pattern:
    """A pattern of paths: `*` and `?` inside a step, `**` for any number of steps."""

    def __init__(self, text: str) -> None:
        self._steps = [step for step in text.split("/") if step not in ("", ".")]

    @property
    def deep(self) -> bool:
        """Whether it can match below the folder itself."""
        return len(self._steps) != 1 or self._steps == ["**"]

    def matches(self, path: str) -> bool:
        """Whether the path, in steps, is one of those meant."""
        at = self._and_after({0})
        for step in path.split("/"):
            moved = {
                place if self._steps[place] == "**" else place + 1
                for place in at
                if place < len(self._steps)
                and (self._steps[place] == "**" or fnmatchcase(step, self._steps[place]))
            }
            at = self._and_after(moved)
        return len(self._steps) in at

    def _and_after(self, places: set[int]) -> set[int]:
        """With those behind each `**`, which may stand for nothing."""
        found = set(places)
        for place in sorted(places):
            while place < len(self._steps) and self._steps[place] == "**":
                place += 1
                found.add(place)
        return found


def walk(root: Root, folder: str, pattern: Pattern) -> Iterator[Entry]:
    """The entries below the folder that the pattern means, `MOST` looked at at most, by name.

    The pattern is matched against paths from the folder on.

    Raises:
        InvalidArguments: there is no such folder.
    """
    lead = "/".join(step for step in folder.split("/") if step not in ("", "."))
    with root.inside(folder) as handle:
        for inner, entry in islice(_below(handle, "", pattern.deep), MOST):
            if pattern.matches(inner):
                path = f"{lead}/{inner}" if lead else inner
                yield Entry(path, *entry)


def _below(
    folder: int, lead: str, deep: bool, depth: int = 0
) -> Iterator[tuple[str, tuple[str, int, float]]]:
    for name in sorted(os.listdir(folder)):
        path = f"{lead}{name}"
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:
            continue  # It is gone already.
        yield path, (_kind(found.st_mode), found.st_size, found.st_mtime)
        if deep and stat.S_ISDIR(found.st_mode) and depth < 60:
            try:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                handle = os.open(name, flags, dir_fd=folder)
            except OSError:
                continue  # It may not be read, or is no folder any more.
            try:
                yield from _below(handle, f"{path}/", deep, depth + 1)
            finally:
                os.close(handle)


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "other"
