"""Records to bytes and back, and the hash that names them.

Bytes are JSON. Mappings keep their order, since that of a tool's arguments means something to a
model; hashes are taken with sorted keys, so that equal records have equal hashes on every machine.
"""

import hashlib
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_encoder = msgspec.json.Encoder()
_sorting = msgspec.json.Encoder(order="deterministic")


def to_bytes(record: object) -> bytes:
    """The record as JSON, the same bytes for records that are equal down to their order."""
    return _encoder.encode(record)


def from_bytes(data: bytes | str, kind: type[T]) -> T:
    """The record of type `kind` that `data` holds.

    Raises:
        ValueError: `data` is no such record; the text says where.
    """
    try:
        return _decoder(kind).decode(data)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a {getattr(kind, '__name__', kind)}: {error}") from error


def to_plain(record: object) -> Any:
    """The record as plain dicts, lists and scalars."""
    return msgspec.to_builtins(record)


def from_plain(value: object, kind: type[T]) -> T:
    """The record of type `kind` that `value`, plain dicts and lists, describes.

    Raises:
        ValueError: it describes no such record.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a {getattr(kind, '__name__', kind)}: {error}") from error


def digest(value: object) -> str:
    """SHA-256 of a record or of plain values, 64 hex digits."""
    return hashlib.sha256(_sorting.encode(value)).hexdigest()


_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    if kind not in _decoders:
        _decoders[kind] = msgspec.json.Decoder(kind)
    return _decoders[kind]
