"""/v1/traces: traces that other programs send as OTLP, in protobuf or JSON, gzipped or not.

An answer comes once all is written: what was not answered may be sent again, since a span that is
known is left as it is. What is sent is the sender's, and is put to no trace that they do not see. A
store that is full or locked is said by 503 with
Retry-After, which exporters take as "later".
"""

import asyncio
import gzip
import io
import zlib
from dataclasses import replace
from types import ModuleType

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from kickwheel.core.errors import MissingExtra, StoreError
from kickwheel.models.caller import Caller
from kickwheel.serve.errors import Refused
from kickwheel.trace.otlp import plain, protobuf
from kickwheel.trace.otlp.observed import Unreadable
from kickwheel.trace.otlp.read import read
from kickwheel.trace.store import Traces

PATH = "/v1/traces"
BYTES = 32 << 20
"""Most that a request may hold, as it is sent and once it is unpacked: some 50,000 small spans, or
as much as a collector takes by default and half as much again."""
AT_ONCE = 2
"""Requests that are unpacked and read at once: each may need ten times its bytes."""
RETRY_AFTER_S = 5
WORKLOAD = "x-kickwheel-workload"
"""Header that says whose traffic it is, as `/t/<project>/v1/traces` does in the path."""

_FOREIGN = "the trace belongs to somebody else, and takes no spans from this key"
_INVALID, _UNIMPLEMENTED, _UNAVAILABLE, _EXHAUSTED = 3, 12, 14, 8
"""Codes of `google.rpc.Code`."""


def otlp_routes(traces: Traces) -> list[BaseRoute]:
    """The routes that take OTLP."""
    reading = asyncio.Semaphore(AT_ONCE)

    def take(
        body: bytes, coding: str, encoding: ModuleType, workload: str | None, who: Caller
    ) -> Response:
        found = read(encoding.read(_unpacked(body, coding)), workload)
        # Whose a trace is says the key that sent it; the house alone may name somebody.
        sent = [
            one
            if who.house and (one.tenant or one.user)
            else replace(one, tenant=who.tenant, user=who.user, sight=who.sight)
            for one in found.arrivals
        ]
        foreign = traces.join(sent).foreign
        why = found.why or (_FOREIGN if foreign else "")
        return _response(200, encoding, encoding.answer(found.rejected + foreign, why))

    async def export(request: Request) -> Response:
        encoding = _encoding(request.headers.get("content-type", ""))
        coding = request.headers.get("content-encoding", "identity").strip().lower()
        workload = request.state.project or request.headers.get(WORKLOAD) or None
        body = await request.body()
        try:
            async with reading:
                who = request.state.caller
                return await run_in_threadpool(take, body, coding, encoding, workload, who)
        except Unreadable as error:
            return _told(400, encoding, _INVALID, str(error))
        except StoreError as error:
            later = {"retry-after": str(RETRY_AFTER_S)}
            return _told(503, encoding, _UNAVAILABLE, str(error), later)
        except MissingExtra as error:
            # It cannot be answered in protobuf either.
            return _told(501, plain, _UNIMPLEMENTED, f"{error}; or send application/json")
        except _TooLarge:
            text = f"The body is larger than {BYTES} bytes once it is unpacked. Send fewer spans."
            return _told(413, encoding, _EXHAUSTED, text)

    return [Route(PATH, export, methods=["POST"])]


class _TooLarge(Exception):
    """A body that unpacks to more than we take."""


def _encoding(content_type: str) -> ModuleType:
    kind = content_type.partition(";")[0].strip().lower()
    for encoding in (protobuf, plain):
        if kind == encoding.CONTENT_TYPE:
            return encoding
    raise Refused(
        415,
        f'OTLP comes as {protobuf.CONTENT_TYPE} or {plain.CONTENT_TYPE}, not as "{kind}"',
    )


def _unpacked(body: bytes, coding: str) -> bytes:
    if coding in ("identity", ""):
        return body
    if coding != "gzip":
        raise Refused(415, f'a body may come with gzip or without, not with "{coding}"')
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as packed:
            found = packed.read(BYTES + 1)
    except EOFError as error:
        raise Unreadable("the gzip breaks off") from error
    except (OSError, zlib.error) as error:
        raise Unreadable(f"the body is no gzip: {error}") from error
    if len(found) > BYTES:
        raise _TooLarge
    return found


def _response(
    status: int, encoding: ModuleType, body: bytes, headers: dict[str, str] | None = None
) -> Response:
    return Response(body, status, headers, media_type=encoding.CONTENT_TYPE)


def _told(
    status: int,
    encoding: ModuleType,
    code: int,
    text: str,
    headers: dict[str, str] | None = None,
) -> Response:
    return _response(status, encoding, encoding.status(code, text), headers)
