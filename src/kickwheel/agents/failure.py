"""Errors of kept steps: as the journal has them, and as they are raised again."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kickwheel.core.errors import (
    DataError,
    EngineError,
    KickwheelError,
    ModelError,
    ToolError,
    UsageError,
)
from kickwheel.records import wire

if TYPE_CHECKING:
    from kickwheel.agents.tools.tool import Effects

_KINDS = {kind.__name__: kind for kind in (DataError, EngineError, ToolError, UsageError)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error in the journal."""

    kind: str = ""
    """Name of its class; what is not known here is a `ToolError`."""
    text: str = ""
    status: int = 502
    """Of a `ModelError`, here and below: what its server answered."""
    retry_after_s: float | None = None


def written(error: Exception, effects: "Effects") -> bytes | None:
    """The error as the journal has it; `None` where the step had better be made again, since
    whoever caught the error would not know it again."""
    kind, text = type(error).__name__, str(error)
    if type(error) is ModelError:
        after = error.retry_after_s
        return wire.to_bytes(
            Failure(kind=kind, text=text, status=error.status, retry_after_s=after)
        )
    if _KINDS.get(kind) is type(error):
        return wire.to_bytes(Failure(kind=kind, text=text))
    if effects == "once":
        told = text if isinstance(error, KickwheelError) else f"{kind}: {text}"
        return wire.to_bytes(Failure(kind="ToolError", text=told))
    return None


def read(body: bytes | None) -> KickwheelError:
    """The error that was `written` so."""
    kept = wire.from_bytes(body or b"{}", Failure)
    if kept.kind == "ModelError":
        return ModelError(kept.text, status=kept.status, retry_after_s=kept.retry_after_s)
    return _KINDS.get(kept.kind, ToolError)(kept.text)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it is made of, and what led to it."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
