"""For whom an agent works right now, and under which key a call may be recognised.

The front door sets the caller once a request; tools that act for a user ask here, so that nobody
hands tokens through arguments, where a model could read them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from pydantic import SecretStr


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asked."""

    user: str = ""
    """Stable name of the person or program; empty where nobody is known."""
    tenant: str = ""
    """Whose data may be seen and shared; empty where there is only one."""
    token: SecretStr | None = None
    """The caller's own bearer token, to be passed on to services that know it."""


NOBODY = Caller()
_caller: ContextVar[Caller] = ContextVar("kickwheel_caller", default=NOBODY)
_key: ContextVar[str | None] = ContextVar("kickwheel_idempotency_key", default=None)


def caller() -> Caller:
    """For whom the work is done."""
    return _caller.get()


@contextmanager
def acting_for(who: Caller) -> Iterator[None]:
    """Everything inside is done for `who`."""
    token = _caller.set(who)
    try:
        yield
    finally:
        _caller.reset(token)


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
