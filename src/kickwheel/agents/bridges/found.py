"""An object of another framework, by the name that an app file has for it."""

import inspect
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from kickwheel.core.errors import MissingPackage, UsageError
from kickwheel.core.plugins import code, names


@asynccontextmanager
async def found(target: str, folder: Path, install: str) -> AsyncGenerator[Any]:
    """What `package.module:name` leads to, made where it is a function, closed at the end.

    Args:
        install: what pip is told to install for the framework that it is written with.
    Raises:
        UsageError: it leads nowhere; the text says why.
        MissingPackage: it imports something that is not installed.
    """
    thing = _code(target, folder, install)
    async with AsyncExitStack() as stack:
        if inspect.isroutine(thing):
            thing = thing()
        if inspect.isawaitable(thing):
            thing = await thing
        if hasattr(thing, "__aenter__") and hasattr(thing, "__aexit__"):
            thing = await stack.enter_async_context(thing)
        yield thing


def made_anew(target: str, folder: Path, install: str) -> bool:
    """Whether `target` leads to a function, so that each call of `found` makes another object."""
    return inspect.isroutine(_code(target, folder, install))


def absent(target: str, folder: Path, install: str) -> Iterable[tuple[str, str]]:
    """What is wrong with the option `object`, as `Part.absent` tells it; nothing is called."""
    try:
        _code(target, folder, install)
    except (UsageError, MissingPackage) as error:
        yield "object", str(error)


def _code(target: str, folder: Path, install: str) -> Any:
    try:
        thing = code(target, folder)
    except UsageError as error:
        missing = error.__cause__
        if isinstance(missing, ModuleNotFoundError) and not names(target, missing.name):
            raise MissingPackage(f'"{target}" needs {missing.name}', install) from error
        raise
    if inspect.isroutine(thing):
        try:
            inspect.signature(thing).bind()
        except TypeError as error:
            raise UsageError(
                f'"{target}" is a function with parameters; name an object, or a function without'
            ) from error
    return thing
