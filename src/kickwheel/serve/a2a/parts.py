"""What a message says to an agent, and what an agent's answer becomes."""

import json
from collections.abc import Iterable, Sequence

from a2a.types import Message, Part
from a2a.utils.errors import ContentTypeNotSupportedError, InvalidParamsError
from google.protobuf import struct_pb2
from google.protobuf.json_format import MessageToDict, ParseDict

TEXT = "text/plain"
JSON = "application/json"
READ = (JSON, "application/xml", "application/yaml", "application/x-yaml", "application/toml")
"""Media types beside `text/*` whose files are text."""


def said(message: Message) -> str:
    """What the message says, as an agent reads it: texts, data as JSON, and files of text.

    Raises:
        InvalidParamsError: it says nothing.
        ContentTypeNotSupportedError: a part of it cannot be read.
    """
    parts = [_read(part, number) for number, part in enumerate(message.parts, 1)]
    text = "\n\n".join(part for part in parts if part)
    if not text.strip():
        raise InvalidParamsError("the message says nothing: give it a part with text or data")
    return text


def answer(text: str, *, formed: bool) -> Part:
    """The part that carries an answer.

    Args:
        formed: whether it is JSON, which is then handed over as data.
    """
    if formed:
        try:
            return Part(data=ParseDict(json.loads(text), struct_pb2.Value()), media_type=JSON)
        except ValueError:  # Cut off, as where its tokens ran out.
            pass
    return Part(text=text, media_type=TEXT)


def accepts(wanted: Sequence[str], given: str) -> None:
    """Returns if a caller who takes `wanted` takes what is `given`; without wishes all is taken.

    Raises:
        ContentTypeNotSupportedError: they do not.
    """
    family = given.partition("/")[0]
    if wanted and not {given, f"{family}/*", "*/*", "*"} & {_plain(one) for one in wanted}:
        listed = ", ".join(wanted)
        raise ContentTypeNotSupportedError(f"this agent answers {given}, and not {listed}")


def _read(part: Part, number: int) -> str:
    kind = part.WhichOneof("content")
    if kind == "text":
        return part.text
    if kind == "data":
        return json.dumps(_whole(MessageToDict(part.data)), ensure_ascii=False, sort_keys=True)
    name = part.filename or f"part {number}"
    if kind == "url":
        raise ContentTypeNotSupportedError(
            f"{name} is a file behind a URL, which is not fetched; send what is in it"
        )
    if kind == "raw":
        return f"{name}:\n{_text(part, name)}"
    raise InvalidParamsError(f"part {number} of the message is empty")


def _text(part: Part, name: str) -> str:
    media = _plain(part.media_type)
    if media and not media.startswith("text/") and media not in READ and "+json" not in media:
        raise ContentTypeNotSupportedError(
            f"{name} is {part.media_type}; agents here read text, JSON and files of text"
        )
    try:
        return part.raw.decode()
    except UnicodeDecodeError:
        raise ContentTypeNotSupportedError(f"{name} is no text in UTF-8") from None


def _plain(media: str) -> str:
    return media.partition(";")[0].strip().lower()


def _whole(value: object) -> object:
    """The value with whole numbers written as such: the protocol's JSON knows only floats."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return value


def texts(parts: Iterable[Part]) -> str:
    """The parts as one text; what is no text is left out."""
    return "\n\n".join(part.text for part in parts if part.text)
