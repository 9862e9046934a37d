"""Everything that can go wrong, as a tree.

KickwheelError
├─ UsageError        the caller asked for something that does not exist or does not fit
│  ├─ ConfigError    a YAML file with mistakes, all of them told at once
│  └─ DataError      a file of traffic, a dataset or an adapter that cannot be used
├─ MissingExtra      a package is not installed; the text says which extra brings it
│  └─ MissingPackage one that no extra brings
├─ StoreError        the store is of another version, locked, damaged or full
├─ ReplayError       a run's journal and the code that goes on with it do not agree
├─ RunLost           another worker has a run now, or it was cancelled
├─ EngineError       a model server that we run does not start or has died for good
├─ ModelError        a model did not answer; `status` is the HTTP status to pass on
│  └─ PersonAsked    a person is asked first, and the run waits
├─ ToolError         a tool failed; the agent gets the text as the tool's result
└─ NotPromoted       the gate said no; nothing was changed

Each text says what was wrong, where, and what to do.
"""

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


class KickwheelError(Exception):
    """Any error that kickwheel raises on purpose."""


class UsageError(KickwheelError):
    """The caller asked for something that does not exist or does not fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One mistake in a file that a person wrote."""

    file: str
    line: int
    """From 1."""
    column: int
    """From 1."""
    where: str
    """The key's path, `agents.concierge.tools[1]`; empty for the whole file."""
    what: str

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        return f"{self.file}:{self.line}:{self.column}: {where}{self.what}"


class ConfigError(UsageError):
    """A YAML file with mistakes."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in mistakes))


class DataError(UsageError):
    """A file of traffic, a dataset or an adapter that cannot be used."""


class MissingExtra(KickwheelError):
    """A package is not installed."""

    def __init__(self, doing: str, extra: str) -> None:
        super().__init__(f"{doing} needs more packages: pip install 'kickwheel[{extra}]'")


class MissingPackage(MissingExtra):
    """A package that no extra of ours brings is not installed."""

    def __init__(self, what: str, install: str) -> None:
        KickwheelError.__init__(self, f"{what}, which is not installed: pip install {install}")


class StoreError(KickwheelError):
    """The store is of another version, locked, damaged or full."""


class ReplayError(KickwheelError):
    """A run's journal and the code that goes on with it do not agree."""


class RunLost(KickwheelError):
    """Another worker has a run now, or it was cancelled."""

    def __init__(self, run: str) -> None:
        super().__init__(f"run {run} was cancelled, or another worker goes on with it")
        self.run = run


class EngineError(KickwheelError):
    """A model server that we run does not start or has died for good."""


class ModelError(KickwheelError):
    """A model did not answer."""

    def __init__(
        self,
        text: str,
        *,
        status: int = 502,
        retry_after_s: float | None = None,
        again: bool = True,
    ) -> None:
        super().__init__(text)
        self.status = status
        """HTTP status that says the same: 400, 401, 404, 429, 502, 504."""
        self.retry_after_s = retry_after_s
        self.again = again
        """Whether the same request may help later, as far as the status says so."""


class PersonAsked(ModelError):
    """A person is asked before there is an answer: the run waits for them."""

    def __init__(self, text: str, run: str) -> None:
        super().__init__(text, status=504, again=False)
        self.run = run
        """Its id, by which it is answered."""


class ToolError(KickwheelError):
    """A tool failed."""

    def __init__(
        self, text: str = "", *, lasting: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(text)
        self.lasting = lasting
        """Whether the same call would fail again, as one for what does not exist: it is not
        repeated, and says nothing against the tool."""
        self.retry_after_s = retry_after_s
        """Seconds after which the tool wants to be called again, where it said so."""


class NotPromoted(KickwheelError):
    """The gate said no; nothing was changed."""


def unreached(error: BaseException) -> str:
    """Why a server gave no answer, as a clause behind «cannot be reached: »: what failed below the
    client, aiohttp's or httpx2's, whose own words are not for those who read this."""
    import socket
    import ssl

    import aiohttp

    failed = list(_below(error))[::-1]  # aiohttp's look like Python's and have less to say.
    for one in failed:
        if isinstance(one, KickwheelError):
            return str(one)
        if isinstance(one, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted here ({one.verify_message})"
        if isinstance(one, ssl.SSLError):
            plain = one.reason == "WRONG_VERSION_NUMBER"
            told = "does its URL begin with http://?" if plain else str(one.reason or "").lower()
            return f"it speaks no TLS with us: {told.replace('_', ' ') or 'it hung up'}"
        if isinstance(one, socket.gaierror):
            return "no host of that name is known here: look at the name, and at the network"
        if isinstance(one, OSError) and one.errno in _UNREACHED:
            return _UNREACHED[one.errno]
        if isinstance(one, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
            return "that is no URL that begins with http:// or https://"
        if isinstance(one, TimeoutError):
            return "it does not answer"
        if isinstance(one, aiohttp.ServerDisconnectedError | ConnectionResetError):
            return "it closed the connection without an answer"
        if isinstance(one, aiohttp.ClientPayloadError):
            return "it broke off in the middle of its answer"
        if isinstance(one, aiohttp.ClientResponseError):
            return "what it answers is no HTTP: is that the right port?"
    text = str(error).partition("\n")[0]
    return text or type(error).__name__


_UNREACHED = {
    errno.ECONNREFUSED: "nothing listens there: start it, or correct the address",
    errno.ECONNRESET: "it broke the connection off",
    errno.EPIPE: "it broke the connection off",
    errno.ETIMEDOUT: "it does not answer",
    errno.EHOSTUNREACH: "no way leads there from here: look at the address, and at the network",
    errno.ENETUNREACH: "no way leads there from here: look at the address, and at the network",
}


def _below(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from, itself first; what is said in our words has no more below
    it."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, KickwheelError):
            continue
        inside = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        from_ = (getattr(one, "os_error", None), *inside, one.__cause__, one.__context__)
        waiting += [other for other in from_ if isinstance(other, BaseException)]
