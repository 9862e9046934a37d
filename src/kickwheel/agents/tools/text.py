"""Text from bytes of unknown make.

Old systems write Windows' and Western Europe's code pages and do not say so. Bytes that are UTF-8
almost surely mean it; any others are read as cp1252, which is what most of them are, byte by byte,
so that a file that two programs wrote is readable too.
"""

import codecs

FALLBACK = "kickwheel-cp1252"
"""Name of the error handler that reads what is no UTF-8 as cp1252, for `open(errors=…)`."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Five bytes mean nothing in cp1252; Latin-1 has a control character for each.
_CP1252 = {
    byte: bytes([byte]).decode("cp1252")
    for byte in range(128, 256)
    if byte not in b"\x81\x8d\x8f\x90\x9d"
}
# Form feeds stand in old print files, 0x1A ends those of DOS, 0x1B colours terminals' logs.
_CONTROL = frozenset(range(32)) - frozenset(b"\t\n\r\f\x08\x1a\x1b")


def decoded(data: bytes, encoding: str | None = None) -> str:
    """The bytes as text; never fails.

    Args:
        encoding: what somebody says it is; one that Python does not know is ignored.
    """
    name = known(encoding) or marked(data) or "utf-8"
    errors = FALLBACK if name == "utf-8" else "replace"
    return data.decode(name, errors)


def marked(data: bytes) -> str | None:
    """The encoding that a byte order mark at the beginning tells."""
    return next((name for mark, name in _MARKS if data.startswith(mark)), None)


def is_text(sample: bytes) -> bool:
    """Whether the beginning of a file looks like text: no control characters but the usual ones."""
    if marked(sample) is not None:
        return True
    return not _CONTROL.intersection(sample)


def known(encoding: str | None) -> str | None:
    """Python's name for an encoding of text; `None` where it has none."""
    try:
        "a".encode(encoding or "")  # Refuses codecs that do not make text, as `hex`.
        return codecs.lookup(encoding).name if encoding else None
    except (LookupError, ValueError):
        return None


def _as_cp1252(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return "".join(_CP1252.get(byte, chr(byte)) for byte in wrong), error.end


codecs.register_error(FALLBACK, _as_cp1252)
