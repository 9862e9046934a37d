"""An object of another framework, by the name that an app file has for it."""

import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from kickwheel.core.errors import MissingPackage, UsageError
from kickwheel.core.plugins import code


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
            thing = _made(thing, target)
        if inspect.isawaitable(thing):
            thing = await thing
        if hasattr(thing, "__aenter__") and hasattr(thing, "__aexit__"):
            thing = await stack.enter_async_context(thing)
        yield thing


def made_anew(target: str, folder: Path, install: str) -> bool:
    """Whether `target` leads to a function, so that each call of `found` makes another object."""
    return inspect.isroutine(_code(target, folder, install))


def _code(target: str, folder: Path, install: str) -> Any:
    try:
        return code(target, folder)
    except UsageError as error:
        missing = error.__cause__
        itself = target.partition(":")[0].partition(".")[0]
        if isinstance(missing, ModuleNotFoundError) and missing.name != itself:
            raise MissingPackage(f'"{target}" needs {missing.name}', install) from error
        raise


def _made(function: Callable[..., Any], target: str) -> Any:
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise UsageError(
            f'"{target}" is a function with parameters; name an object, or a function without'
        ) from error
    return function()
