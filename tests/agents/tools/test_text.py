from hypothesis import given
from hypothesis import strategies as st

from kickwheel.agents.tools import text


@given(st.text())
def test_utf_8_is_read_as_it_is(written: str) -> None:
    data = written.encode("utf-8", "replace")
    assert text.decoded(data) == data.decode().removeprefix("\ufeff")


@given(st.binary(max_size=200), st.sampled_from([None, "utf-8", "cp850", "hex", "no such", ""]))
def test_whatever_the_bytes_there_is_a_text(data: bytes, encoding: str | None) -> None:
    assert isinstance(text.decoded(data, encoding), str)


def test_what_is_no_utf_8_is_cp1252() -> None:
    # The examples are from Microsoft's table of code page 1252.
    assert text.decoded(b"\x80 5, \x84Gr\xfc\xdfe\x93 \x96 na\xefve") == "€ 5, „Grüße“ – naïve"


def test_a_text_is_told_from_other_bytes() -> None:
    assert text.is_text("Grüße\r\n\tTotal\f\x1a".encode("cp1252"))
    assert text.is_text("Grüße".encode("utf-16"))
    assert text.is_text(b"")
    assert not text.is_text(b"\x7fELF\x02\x01\0\0")
    assert not text.is_text(b"SQLite format 3\0")
