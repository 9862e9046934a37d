"""Errors as OpenAI's clients read them: a status, and `{"error": {message, type, param, code}}`."""

import errno
import logging
from collections.abc import Mapping

import msgspec
from pydantic import ValidationError

from kickwheel.core.errors import (
    EngineError,
    KickwheelError,
    MissingExtra,
    ModelError,
    PersonAsked,
    RunLost,
    StoreError,
    ToolError,
    UsageError,
)

_log = logging.getLogger(__name__)

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
_STATUS: tuple[tuple[type[KickwheelError], int], ...] = (
    (UsageError, 400),
    (MissingExtra, 501),
    (StoreError, 503),
    (EngineError, 503),
    (ToolError, 502),
)


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
        again: bool = True,
        allow: str | None = None,
        challenge: str | None = None,
        run: str | None = None,
    ) -> None:
        super().__init__(message)
        self.allow = allow
        """Methods that the route takes."""
        self.challenge = challenge
        """What a client must show in place of what it showed (RFC 6750, section 3)."""
        self.run = run
        """Id of the run that waits for a person."""
        self.again = again
        """Whether a client may send the same once more, as far as the status says so."""
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s

    def body(self) -> bytes:
        """The error as JSON."""
        kind = _TYPES.get(self.status) or (
            "server_error" if self.status >= 500 else "invalid_request_error"
        )
        return msgspec.json.encode(
            {
                "error": {
                    "message": self.message,
                    "type": kind,
                    "param": self.param,
                    "code": self.code,
                }
            }
        )

    def headers(self) -> Mapping[str, str]:
        """Further headers of the answer."""
        if self.allow is not None:
            return {"allow": self.allow}
        if self.challenge is not None:
            return {"www-authenticate": self.challenge}
        if not self.again:
            waits = {} if self.run is None else {"x-run-id": self.run}
            return {"x-should-retry": "false", **waits}
        if self.retry_after_s is None:
            return {}
        return {
            "retry-after": f"{max(1, round(self.retry_after_s))}",
            "retry-after-ms": f"{max(0.0, 1000 * self.retry_after_s):.0f}",
        }


def invalid(error: ValidationError) -> Refused:
    """The refusal of a body that breaks its schema: every mistake with its field."""
    told, params = [], []
    for entry in error.errors():
        where = ".".join(str(key) for key in entry["loc"])
        what = str(entry["msg"]).removeprefix("Value error, ")
        if entry["type"] == "json_invalid":
            return Refused(400, f"The body is not JSON: {what}", code="invalid_json")
        if entry["type"] == "extra_forbidden":
            what = "no such field"
        told.append(f"{where}: {what[:1].lower()}{what[1:]}" if where else what)
        params.append(where)
    return Refused(400, "; ".join(told), param=params[0] or None)


def refusal(error: Exception, request_id: str) -> Refused:
    """How a request ends that `error` ended; an error that nobody meant is logged."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, PersonAsked):
        told = f"{error}. Answer it: POST /v1/runs/{error.run}/answer"
        return Refused(504, told, code="waiting_for_person", again=False, run=error.run)
    if isinstance(error, ModelError):
        status = error.status if 400 <= error.status < 600 else 502
        return Refused(status, str(error), retry_after_s=error.retry_after_s, again=error.again)
    if isinstance(error, RunLost):
        # Clients send a 409 once more by themselves, and the run would begin again.
        return Refused(409, str(error), code="run_cancelled", again=False)
    if isinstance(error, TimeoutError):
        return Refused(504, "The model did not answer in time.")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refused(503, "The server's disk is full. Free some space there and try again.")
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return Refused(status, str(error))
    _log.error("Request %s failed", request_id, exc_info=error)
    return Refused(500, f"Something broke on our side; the log tells more about {request_id}.")
