"""What holds a file's entries: lines, arrays, objects, CSV."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kickwheel.core.errors import DataError
from kickwheel.trace.forms import rows as module
from kickwheel.trace.forms.rows import rows

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
objects = st.dictionaries(
    texts, texts | st.integers() | st.none() | st.lists(texts, max_size=2), max_size=4
)
forever = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150
)


def values(file: Path) -> list[Any]:
    return [row.value for row in rows(file)]


@given(st.lists(objects, max_size=5), st.sampled_from([None, 0, 2]), st.booleans())
@forever
def test_an_array_gives_its_elements_however_it_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    written: list[dict[str, Any]],
    indent: int | None,
    ascii_: bool,
) -> None:
    monkeypatch.setattr(module, "CHUNK", 3)
    file = tmp_path / "x.json"
    file.write_text(json.dumps(written, indent=indent, ensure_ascii=ascii_), encoding="utf-8")
    assert values(file) == written
    assert [row.entry for row in rows(file)] == list(range(len(written)))


@given(st.lists(objects, min_size=1, max_size=4), st.sampled_from([None, 1]), st.data())
@forever
def test_half_an_array_is_never_taken_for_a_whole_one(
    tmp_path: Path, written: list[dict[str, Any]], indent: int | None, data: st.DataObject
) -> None:
    whole = json.dumps(written, indent=indent)
    file = tmp_path / "x.json"
    file.write_text(whole[: data.draw(st.integers(1, len(whole) - 1))], encoding="utf-8")
    with pytest.raises(DataError, match="cut"):
        values(file)


@given(st.lists(objects.filter(bool), min_size=1, max_size=5))
@forever
def test_objects_over_many_lines_and_a_line_each_are_the_same(
    tmp_path: Path, written: list[dict[str, Any]]
) -> None:
    file = tmp_path / "x.json"
    file.write_text("\n".join(json.dumps(one, indent=2) for one in written))
    assert values(file) == written
    file.write_text("".join(json.dumps(one) + "\n" for one in written))
    assert values(file) == written


@given(st.lists(st.tuples(texts, texts), max_size=5))
@forever
def test_a_row_of_csv_is_an_object_of_texts(tmp_path: Path, written: list[tuple[str, str]]) -> None:
    file = tmp_path / "x.csv"
    with file.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([("id", "name"), *written])
    assert values(file) == [{"id": one, "name": other} for one, other in written]


def test_the_line_of_an_entry_is_where_it_begins(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text('[\n  {"a": 1},\n\n  {"b":\n 2}\n]\n')
    assert [(row.line, row.place("x.json")) for row in rows(file)] == [
        (2, "x.json[0]"),
        (4, "x.json[1]"),
    ]
    file = tmp_path / "x.csv"
    file.write_text('id,name\n1,"a\nb"\n2,c\n')
    assert [row.line for row in rows(file)] == [2, 4]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('[{"a": 1}, {"a" 2}]', r"x.json:1: entry 1 is no JSON: Expecting ':'"),
        ('[{"a": 1}]\n{"b": 1}', None),
        ('[{"a": 1}\n] x', "stands behind the end of the array"),
        ('[{"a": NaN}]', "NaN is no number"),
        ('{\n"a": 1,\n"b" 2}', "x.json:3: entry 0 is no JSON"),
        ("[" * 100_000, "no JSON|cut"),
    ],
)
def test_a_broken_file_says_where(text: str, what: str | None, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    if what is None:
        assert [row.wrong for row in rows(file)] == [None, None]
        return
    with pytest.raises(DataError, match=what):
        values(file)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (gzip.compress(b'{"a": 1}', mtime=0), "packed by gzip. Unpack it first: gunzip t.jsonl."),
        (b"PAR1\x15\x04", "a Parquet file, which is not read. Export JSON Lines or CSV."),
        ("{}".encode("utf-16"), "UTF-16 text. Write it as UTF-8"),
    ],
)
def test_what_is_no_text_is_told_with_what_to_do(written: bytes, told: str, tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_bytes(written)
    with pytest.raises(DataError, match=told):
        list(rows(file))


def test_what_apis_wrap_around_entries_is_taken_off(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(json.dumps({"data": [{"a": 1}, {"a": 2}], "next_cursor": None}, indent=1))
    assert values(file) == [{"a": 1}, {"a": 2}]
    file.write_text(json.dumps({"data": [1], "name": "mine"}))
    assert values(file) == [{"data": [1], "name": "mine"}]
