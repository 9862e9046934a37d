"""For whom an agent works right now, and under which key a call may be recognised.

Who the caller is stands in `models.caller`, since calls to models depend on it too; tools find
both here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from kickwheel.models.caller import NOBODY, Caller, acting_for, caller

__all__ = ["NOBODY", "Caller", "acting_for", "call_key", "caller", "idempotency_key"]

_key: ContextVar[str | None] = ContextVar("kickwheel_idempotency_key", default=None)


def idempotency_key() -> str | None:
    """The same for a call and its repetition, different for any other; `None` outside a call."""
    return _key.get()


@contextmanager
def call_key(key: str) -> Iterator[None]:
    """The call inside is known by `key`."""
    token = _key.set(key)
    try:
        yield
    finally:
        _key.reset(token)
