import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.agents.tools.desk import Service, call, mistakes, opened, service

from kickwheel.agents.caller import call_key
from kickwheel.agents.tools import Tool
from kickwheel.agents.tools.http import Http, Request, _body

NUMBER = {"type": "integer", "description": "As printed on the receipt."}
TEXT = {"type": "string"}


async def fine(request: web.Request) -> web.Response:
    return web.Response(text="fine")


@asynccontextmanager
async def asking(
    folder: Path, request: dict[str, Any], **options: Any
) -> AsyncGenerator[tuple[dict[str, Tool], Service]]:
    """The request `x` with a service behind it."""
    async with service(fine) as served:
        whole = {"description": "Asks.", **request, "url": served.url + request.get("url", "/")}
        async with opened(Http, folder, requests={"x": whole}, **options) as tools:
            yield tools, served


async def test_a_request_is_a_tool(tmp_path: Path) -> None:
    request = {
        "description": "One order.",
        "url": "/orders/{number}",
        "query": {"lines": "{lines}", "lang": "en", "page": "p-{page}"},
        "headers": {"X-Desk": "{desk}", "X-Till": "4"},
        "parameters": {
            "number": NUMBER,
            "lines": {"type": "boolean", "default": True},
            "page": {"type": "integer", "required": False},
            "desk": {**TEXT, "required": False},
        },
    }
    async with asking(tmp_path, request) as (tools, served):
        spec = tools["x"].spec
        assert (spec.name, spec.description) == ("x", "One order.")
        assert spec.parameters == {
            "type": "object",
            "properties": {
                "number": NUMBER,
                "lines": {"type": "boolean", "default": True},
                "page": {"type": "integer"},
                "desk": {"type": "string"},
            },
            "required": ["number"],
            "additionalProperties": False,
        }
        assert (await call(tools, "x", '{"number": 7}')).text == "fine"
        assert served.last.path == "/orders/7?lines=true&lang=en"
        assert served.last.headers["X-Till"] == "4"
        assert "X-Desk" not in served.last.headers
        await call(tools, "x", '{"number": 7, "page": 2, "desk": "east", "lines": false}')
        assert served.last.path == "/orders/7?lines=false&lang=en&page=p-2"
        assert served.last.headers["X-Desk"] == "east"


async def test_a_mapping_is_json_with_arguments_as_they_are(tmp_path: Path) -> None:
    request = {
        "method": "POST",
        "body": {"order": {"lines": "{lines}", "by": "desk {desk}", "note": "{note}"}, "v": 2},
        "parameters": {
            "lines": {"type": "array", "items": NUMBER},
            "desk": NUMBER,
            "note": {**TEXT, "required": False},
        },
    }
    async with asking(tmp_path, request) as (tools, served):
        with call_key("k-1"):
            await tools["x"].call({"lines": [1, 2], "desk": 4})
        assert served.last.body == '{"order":{"lines":[1,2],"by":"desk 4"},"v":2}'
        assert served.last.headers["Content-Type"] == "application/json"
        assert served.last.headers["Idempotency-Key"] == "k-1"


async def test_a_mapping_may_be_a_form(tmp_path: Path) -> None:
    request = {
        "method": "POST",
        "body": {"q": "{q}", "go": "Search"},
        "content_type": "application/x-www-form-urlencoded",
        "parameters": {"q": TEXT},
        "effects": "none",
    }
    async with asking(tmp_path, request) as (tools, served):
        assert tools["x"].limits.effects == "none"  # type: ignore[attr-defined]
        await call(tools, "x", '{"q": "a&go=Delete"}')
        assert served.last.body == "q=a%26go%3DDelete&go=Search"


async def test_an_old_service_gets_its_xml_in_its_own_encoding(tmp_path: Path) -> None:
    request = {
        "method": "POST",
        "body": "<find><name>{name}</name><raw>{other}</raw></find>",
        "content_type": "text/xml; charset=iso-8859-1",
        "headers": {"SOAPAction": "find"},
        "parameters": {"name": TEXT},
    }
    whole = Request(url="http://x/", description="Finds.", **request)  # type: ignore[arg-type]
    kind, body = _body(whole, {"name": "Köhler & <Co>"})
    assert kind == "text/xml; charset=iso-8859-1"
    expected = "<find><name>Köhler &amp; &lt;Co&gt;</name><raw>{other}</raw></find>"
    assert body == expected.encode("latin-1")


@settings(max_examples=100, deadline=None)
@given(value=st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc", "Cn", "Co"])))
def test_a_value_stays_a_value_in_xml(value: str) -> None:
    request = Request(
        description="Finds.",
        method="POST",
        url="http://x/",
        body='<find by="{name}"><name>{name}</name></find>',
        content_type="text/xml; charset=utf-8",
        parameters={"name": TEXT},
    )
    root = ElementTree.fromstring(_body(request, {"name": value})[1].decode())
    assert (root.tag, len(root), root[0].text or "", root.get("by")) == ("find", 1, value, value)


@pytest.mark.parametrize("value", ['"', "\\", "\n", 'a", "admin": "b'])
def test_a_value_stays_a_value_in_a_json_text(value: str) -> None:
    request = Request(
        description="Finds.",
        method="POST",
        url="http://x/",
        body='{"name": "{name}"}',
        content_type="application/json",
        parameters={"name": TEXT},
    )
    assert json.loads(_body(request, {"name": value})[1]) == {"name": value}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ('{"id": ".."}', 'error: ".." cannot stand in the path of a URL'),
        ('{"id": ""}', 'error: "" cannot stand in the path of a URL'),
        (r'{"id": "1", "desk": "a\r\nX-Admin: 1"}', "error: a header's value cannot hold line"),
    ],
)
async def test_a_value_makes_no_other_request(tmp_path: Path, arguments: str, told: str) -> None:
    request = {
        "url": "/orders/{id}",
        "headers": {"X-Desk": "{desk}"},
        "parameters": {"id": TEXT, "desk": {**TEXT, "required": False}},
    }
    async with asking(tmp_path, request) as (tools, served):
        result = await call(tools, "x", arguments)
        assert result.state == "invalid"
        assert result.text.startswith(told)
        assert served.asked == []


async def test_a_slash_in_a_value_is_no_slash(tmp_path: Path) -> None:
    request = {"url": "/orders/{id}", "parameters": {"id": TEXT}}
    async with asking(tmp_path, request) as (tools, served):
        await call(tools, "x", '{"id": "../admin?all=1#"}')
        assert served.last.path == "/orders/..%2Fadmin%3Fall%3D1%23"


async def test_a_secret_is_a_variable_and_stays_in_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_KEY", "s3cret")
    auth = {"kind": "key", "key": "${SHOP_KEY}", "name": "X-Shop"}
    async with asking(tmp_path, {}, auth=auth) as (tools, served):
        assert (await call(tools, "x")).text == "fine"
        assert served.last.headers["X-Shop"] == "s3cret"


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ("{url: 'http://x/{id}', description: d}", 'there is no parameter "id". There are none.'),
        ("{url: 'http://{id}/', description: d, parameters: {id: {}}}",
         "an argument cannot say which host is asked: {id}"),
        ("{url: 'http://x/?a={id}', description: d, parameters: {id: {}}}",
         "arguments of the query stand under `query`"),
        ("{url: '/x', description: d}", '"/x" is no URL of a service: https://…'),
        ("{url: 'file:///etc/passwd', description: d}",
         '"file:///etc/passwd" is no URL of a service: https://…'),
        ("{url: 'http://x/', description: d, parameters: {a: {}}}",
         'the parameter "a" stands nowhere in the request'),
        ("{url: 'http://x/{a}', description: d, parameters: {a: {default: 1}}}",
         'the parameter "a" is part of the path: it must be required'),
    ],
)  # fmt: skip
def test_a_template_that_cannot_be_is_told_with_its_line(
    tmp_path: Path, request_: str, told: str
) -> None:
    yaml = f"kind: http\nrequests:\n  find:\n    {request_}\n"
    assert mistakes(Http, yaml, tmp_path) == [f"3: requests.find: {told}"]


def test_a_name_that_no_provider_takes_is_told(tmp_path: Path) -> None:
    yaml = "kind: http\nrequests:\n  find order: {url: 'http://x/', description: d}\n"
    (told,) = mistakes(Http, yaml, tmp_path)
    assert told.endswith('"find order" is no name for a tool: letters, digits, _ and -')


def test_a_way_of_authorising_that_there_is_not_is_told(tmp_path: Path) -> None:
    yaml = "kind: http\nauth: {AUTH}\nrequests:\n  find: {url: 'http://x/', description: d}\n"
    for auth, told in (
        (
            "kind: basik",
            'auth: "basik" is none of key, basic, digest, certificate, bearer, oauth2, caller',
        ),
        ("user: ann", "auth: kind is missing"),
        ("kind: basic, user: ann", 'auth.password: "password" is missing'),
    ):
        assert mistakes(Http, yaml.replace("AUTH", auth), tmp_path) == [f"2: {told}"]
