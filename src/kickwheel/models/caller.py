"""For whom the work is done right now.

The front door sets the caller once a request. Tools that act for a user ask here, so that nobody
hands tokens through arguments, where a model could read them; budgets and caches ask whose
answer it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from pydantic import SecretStr

from kickwheel.core.store import EVERYTHING, Sight


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asked."""

    user: str = ""
    """Stable name of the person or program; empty where nobody is known."""
    tenant: str = ""
    """Whose data may be seen and shared; empty where there is only one."""
    token: SecretStr | None = None
    """The caller's own bearer token, to be passed on to services that know it."""
    credential: str = ""
    """The beginning of the digest of the API key that they showed; one user may have several."""
    key: str = ""
    """The caller's own name for this question: asked again under it, they get the same answer."""
    run: str = ""
    """Id of the kept run that this is, where one is gone on with."""
    house: bool = False
    """Whether they act for whoever runs the app, and see what all have made."""

    @property
    def sight(self) -> Sight:
        """What they see of all that is kept."""
        return EVERYTHING if self.house else Sight(self.tenant, self.user)


NOBODY = Caller()
_caller: ContextVar[Caller] = ContextVar("kickwheel_caller", default=NOBODY)


def caller() -> Caller:
    """For whom the work is done."""
    return _caller.get()


def whose() -> tuple[str, str]:
    """Tenant and user that the work is done for, as a trace notes them."""
    who = caller()
    return who.tenant, who.user


@contextmanager
def acting_for(who: Caller) -> Iterator[None]:
    """Everything inside is done for `who`."""
    token = _caller.set(who)
    try:
        yield
    finally:
        _caller.reset(token)
