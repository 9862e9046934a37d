"""Pictures that callers send with their words: checked, and kept in the store.

From here on a conversation only names them, so that neither its trace nor the journal of its run
holds their bytes.
"""

from collections.abc import Sequence
from dataclasses import replace

from msgspec import UNSET, structs
from starlette.concurrency import run_in_threadpool

from kickwheel.core.store import Artifacts
from kickwheel.models import pictures
from kickwheel.models.chat import ChatRequest
from kickwheel.records import Image, Message
from kickwheel.serve.errors import Refused

MOST = 20
"""Pictures in one request at most."""


async def kept(request: ChatRequest, artifacts: Artifacts, param: str) -> ChatRequest:
    """The request with its pictures in the store; those at https:// URLs stay where they are.

    Args:
        param: the field of the body in which they came.
    Raises:
        Refused: there are too many, or one is none that models take (400).
        StoreError: the disk is full or cannot be written.
    """
    count = sum(image.sent for message in request.messages for image in message.images or ())
    if count > MOST:
        what = f"{count} pictures are too many: at most {MOST} are taken in one request"
        raise Refused(400, what, param=param)
    try:
        messages = await run_in_threadpool(_kept, request.messages, artifacts)
    except ValueError as error:
        raise Refused(400, str(error), param=param, code="invalid_image") from error
    return structs.replace(request, messages=messages)


def _kept(messages: Sequence[Message], artifacts: Artifacts) -> tuple[Message, ...]:
    return tuple(
        replace(m, images=tuple(_one(i, artifacts) for i in m.images) or UNSET) if m.images else m
        for m in messages
    )


def _one(image: Image, artifacts: Artifacts) -> Image:
    head, comma, data = image.url.partition(",")
    if not head.startswith("data:"):
        return image
    media_type, _, coding = head.removeprefix("data:").partition(";")
    if not comma or coding != "base64":
        raise ValueError("the data: URL of a picture must be data:image/png;base64,… or alike")
    found = pictures.keep(artifacts, media_type, data)
    return replace(image, url="", kept=found.kept, media_type=found.media_type)
