"""Parts: classes that the YAML file can name.

A part's fields are the options that the file may set, its docstrings are the documentation, and
`open` makes the live thing. Shelves (`models`, `tools`, `agents`, …) are entry-point groups
`kickwheel.<shelf>`, ours included; `kind: package.module:Class` takes code at hand, looked up in
the app's folder first.
"""

import importlib
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from kickwheel.core.errors import UsageError
from kickwheel.core.store import Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Name:
    """Marks a field that names another part of the file: `Annotated[str, Name("models")]`.

    On a list or tuple it marks each entry. The app checks such names and opens what they name
    first.
    """

    shelf: str


@dataclass(frozen=True, slots=True)
class Context:
    """What a part finds when it is opened."""

    name: str
    """The part's own name in the file."""
    folder: Path
    """The folder of the app file; relative paths start here."""
    store: Store
    parts: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    """What is open already, by shelf and name."""
    share: Callable[[Any, Callable[[], AbstractAsyncContextManager[Any]]], Awaitable[Any]] = field(
        kw_only=True
    )
    """`await share(key, open)`: the thing that another part opened under this key, or a new one
    that closes with the app. Engines use it, so that two models on one base share a process."""
    dry: bool = field(default=False, kw_only=True)
    """Whether no model is going to be asked, so that no engine needs to start."""

    def part(self, shelf: str, name: str) -> Any:
        """The live thing that the file calls `name` on `shelf`."""
        return self.parts[shelf, name]


class Part(BaseModel):
    """What a shelf holds: options as fields, and `open`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    kind: str = ""
    """Which class of the shelf it is: a name, or `package.module:Class`."""

    def mistakes(self, folder: Path) -> Iterable[tuple[str, str]]:
        """What is wrong with the options that a look at the disk shows: the option, and what is
        wrong with it. Nothing is fetched or opened for it.

        Args:
            folder: of the app file; relative paths start here.
        """
        return ()

    def absent(self, folder: Path) -> Iterable[tuple[str, str]]:
        """What the options name and is not there, so that the part would not open: as `mistakes`,
        but asked for only where the file is meant to be complete.

        Args:
            folder: of the app file; relative paths start here.
        """
        return ()

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[Any]:
        """The live thing, closed when the block ends."""
        raise TypeError(f"{type(self).__name__} does not say how it opens")
        yield


@cache
def kinds(shelf: str) -> dict[str, EntryPoint]:
    """The kinds that installed packages announce for a shelf, by name."""
    return {entry.name: entry for entry in entry_points(group=f"kickwheel.{shelf}")}


def load(shelf: str, kind: str, folder: Path) -> type[Part]:
    """The class behind a kind.

    Raises:
        UsageError: there is no such kind, or its code does not import.
    """
    if ":" in kind:
        return _part(code(kind, folder), kind)
    found = kinds(shelf).get(kind)
    if found is None:
        raise UsageError(f'no kind "{kind}" of {shelf}. {nearest(kind, kinds(shelf))}')
    return _part(code(found.value, folder), kind)


def nearest(word: str, known: Mapping[str, object] | list[str] | set[str]) -> str:
    """A sentence that names the nearest of the known words, or all of them."""
    close = get_close_matches(word, list(known), n=1)
    if close:
        return f'Did you mean "{close[0]}"?'
    return f"There are: {', '.join(sorted(known))}." if known else "There are none."


def code(target: str, folder: Path) -> Any:
    """What `package.module:name` leads to, looked up in `folder` first.

    Raises:
        UsageError: it is no such path, its module does not import, or has no such name.
    """
    module, _, name = target.partition(":")
    if not module or not name:
        raise UsageError(f'"{target}" is no package.module:name')
    place = str(folder)
    if place not in sys.path:
        sys.path.insert(0, place)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not names(target, error.name):  # What it imports itself is not there.
            raise UsageError(f'"{target}" cannot be imported: {error}') from error
        wanted = str(error.name).replace(".", "/")
        raise UsageError(
            f'"{target}" cannot be imported: there is no {wanted}.py in {folder}, and no '
            "package of that name is installed"
        ) from error
    except SystemExit as error:  # As a script's, whose reading of arguments is not guarded.
        raise UsageError(
            f'"{target}" cannot be imported: {module} ends the program. Put what it does as a '
            'script under `if __name__ == "__main__":`'
        ) from error
    except Exception as error:  # The module is the user's: whatever it raises, it did not import.
        raise UsageError(
            f'"{target}" cannot be imported: {type(error).__name__}: {error}'
        ) from error
    if not hasattr(found, name):
        known = {word for word in vars(found) if not word.startswith("_")}
        raise UsageError(f'"{target}": {module} has no "{name}". {nearest(name, known)}')
    return getattr(found, name)


def names(target: str, module: str | None) -> bool:
    """Whether `package.module:name` itself names the module, or a package that the module is in."""
    return f"{target.partition(':')[0]}.".startswith(f"{module}.")


def _part(found: object, kind: str) -> type[Part]:
    if isinstance(found, type) and issubclass(found, Part):
        return found
    raise UsageError(f'kind "{kind}" is no subclass of kickwheel.Part')
