"""Expected texts are the examples of the OpenAPI Specification 3.1.1, section 4.8.12.5."""

from typing import Any

import pytest

from kickwheel.agents.tools import InvalidArguments, style
from kickwheel.agents.tools.style import Place, parameter

BLUE = "blue"
COLORS = ["blue", "black", "brown"]
RGB = {"R": 100, "G": 200, "B": 150}


@pytest.mark.parametrize(
    ("name", "explode", "empty", "string", "array", "object_"),
    [
        ("matrix", False, ";color", ";color=blue", ";color=blue,black,brown",
         ";color=R,100,G,200,B,150"),
        ("matrix", True, ";color", ";color=blue", ";color=blue;color=black;color=brown",
         ";R=100;G=200;B=150"),
        ("label", False, ".", ".blue", ".blue,black,brown", ".R,100,G,200,B,150"),
        ("label", True, ".", ".blue", ".blue.black.brown", ".R=100.G=200.B=150"),
        ("simple", False, None, "blue", "blue,black,brown", "R,100,G,200,B,150"),
        ("simple", True, None, "blue", "blue,black,brown", "R=100,G=200,B=150"),
    ],
)  # fmt: skip
def test_paths(
    name: str, explode: bool, empty: str | None, string: str, array: str, object_: str
) -> None:
    color = parameter("color", "path", {"style": name, "explode": explode})
    written = [style.in_path(color, value) for value in (BLUE, COLORS, RGB)]
    assert written == [string, array, object_]
    if empty is None:
        with pytest.raises(InvalidArguments):
            style.in_path(color, "")
    else:
        assert style.in_path(color, "") == empty


@pytest.mark.parametrize(
    ("name", "explode", "string", "array", "object_"),
    [
        ("form", False, "color=blue", "color=blue,black,brown", "color=R,100,G,200,B,150"),
        ("form", True, "color=blue", "color=blue&color=black&color=brown", "R=100&G=200&B=150"),
        ("spaceDelimited", False, None, "color=blue%20black%20brown",
         "color=R%20100%20G%20200%20B%20150"),
        ("pipeDelimited", False, None, "color=blue%7Cblack%7Cbrown",
         "color=R%7C100%7CG%7C200%7CB%7C150"),
        ("deepObject", True, None, None, "color%5BR%5D=100&color%5BG%5D=200&color%5BB%5D=150"),
    ],
)  # fmt: skip
def test_queries(
    name: str, explode: bool, string: str | None, array: str | None, object_: str
) -> None:
    color = parameter("color", "query", {"style": name, "explode": explode})
    for value, expected in ((BLUE, string), (COLORS, array), (RGB, object_)):
        if expected is not None:
            assert style.in_query(color, value) == expected


def test_headers_and_cookies() -> None:
    plain = parameter("X-Color", "header", {})
    spread = parameter("X-Color", "header", {"explode": True})
    assert style.in_header(plain, COLORS) == "blue,black,brown"
    assert style.in_header(plain, RGB) == "R,100,G,200,B,150"
    assert style.in_header(spread, RGB) == "R=100,G=200,B=150"
    cookie = parameter("color", "cookie", {"explode": False})
    assert style.in_cookies(cookie, COLORS) == [("color", "blue,black,brown")]


@pytest.mark.parametrize(
    ("place", "expected"),
    [("path", "simple"), ("query", "form"), ("header", "simple"), ("cookie", "form")],
)
def test_a_parameter_without_style_has_that_of_its_place(place: Place, expected: str) -> None:
    found = parameter("color", place, {})
    assert (found.style, found.explode) == (expected, expected == "form")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, "q=true"),
        (2.5, "q=2.5"),
        (None, "q="),
        ("a b&c=d/é", "q=a%20b%26c%3Dd%2F%C3%A9"),
        ({"in": {"side": [1]}}, "in=%7B%22side%22%3A%5B1%5D%7D"),
        ([], ""),
    ],
)
def test_values_are_encoded(value: Any, expected: str) -> None:
    assert style.in_query(parameter("q", "query", {}), value) == expected


def test_reserved_signs_stay_where_the_document_allows_them() -> None:
    open_ = parameter("q", "query", {"allowReserved": True})
    assert style.in_query(open_, "a/b?c&d#e") == "q=a/b?c%26d%23e"


def test_a_parameter_with_content_is_json() -> None:
    filter_ = parameter("filter", "query", {"content": {"application/json": {}}})
    assert style.in_query(filter_, {"a": [1]}) == "filter=%7B%22a%22%3A%5B1%5D%7D"


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_a_value_cannot_lead_to_another_path(value: str) -> None:
    with pytest.raises(InvalidArguments):
        style.in_path(parameter("id", "path", {}), value)


def test_a_slash_in_a_path_is_no_slash() -> None:
    assert style.in_path(parameter("id", "path", {}), "../admin") == "..%2Fadmin"


@pytest.mark.parametrize("value", ["a\r\nX-Admin: 1", "a\nb", "a\0"])
def test_a_header_cannot_become_two(value: str) -> None:
    with pytest.raises(InvalidArguments):
        style.in_header(parameter("X-Note", "header", {}), value)


def test_a_multipart_form_has_fields_and_files() -> None:
    media, body = style.multipart({"to": "Ann", "n": [1, 2], "scan": "text"}, frozenset(("scan",)))
    boundary = media.partition("boundary=")[2]
    parts = body.decode().split(f"--{boundary}")
    assert len(parts) == 6
    assert parts[1] == '\r\nContent-Disposition: form-data; name="to"\r\n\r\nAnn\r\n'
    assert 'name="scan"; filename="scan.txt"' in parts[4]
    assert parts[5] == "--\r\n"
