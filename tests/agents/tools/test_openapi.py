import asyncio
import base64
import gzip
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from tests.agents.tools.desk import Service, call, mistakes, opened, service

from kickwheel.agents.caller import Caller, acting_for, call_key
from kickwheel.agents.tools import InvalidArguments, apidoc
from kickwheel.agents.tools.bundle import parsed
from kickwheel.agents.tools.openapi import OpenApi
from kickwheel.agents.tools.web import MOST_BYTES
from kickwheel.core.errors import ToolError, UsageError

YAML = """
openapi: 3.1.0
info: {title: Orders, version: "1"}
servers:
  - url: "{scheme}://HOST/v1"
    variables: {scheme: {default: http, enum: [http, https]}}
paths:
  /orders/{number}:
    parameters:
      - {name: number, in: path, required: true, schema: {type: integer}}
    get:
      operationId: getOrder
      tags: [reading]
      summary: One order.
      description: One order with its lines.
      parameters:
        - {name: fields, in: query, schema: {type: array, items: {type: string}}, explode: false}
        - {name: X-Desk, in: header, schema: {type: string}}
        - {name: till, in: cookie, schema: {type: string}}
      responses: {"200": {description: ok}}
    delete:
      summary: Cancel an order.
      responses: {"204": {description: gone}}
  /orders:
    post:
      operationId: orders.create
      tags: [writing]
      requestBody:
        required: true
        content:
          application/json: {schema: {$ref: "#/components/schemas/Order"}}
      responses: {"201": {description: made}}
components:
  schemas:
    Order:
      type: object
      required: [id, customer, lines]
      properties:
        id: {type: integer, readOnly: true}
        customer: {type: string, description: Who buys., example: Ann}
        note: {type: [string, "null"]}
        lines: {type: array, items: {$ref: "#/components/schemas/Line"}}
    Line:
      type: object
      properties:
        item: {type: string}
        parts: {type: array, items: {$ref: "#/components/schemas/Line"}}
"""


async def fine(request: web.Request) -> web.Response:
    return web.json_response({"done": True, "path": request.path})


def document(folder: Path, served: Service, text: str = YAML) -> str:
    (folder / "orders.yml").write_text(text.replace("HOST", served.url.removeprefix("http://")))
    return "orders.yml"


def one(operation: dict[str, Any], *, path: str = "/x", **more: Any) -> str:
    """A document with one operation."""
    whole = {
        "openapi": "3.0.3",
        "servers": [{"url": "http://HOST"}],
        "paths": {path: {"get": {"responses": {}, "operationId": "x", **operation}}},
        **more,
    }
    return json.dumps(whole)


async def test_each_operation_is_a_tool(tmp_path: Path) -> None:
    async with (
        service(fine) as served,
        opened(OpenApi, tmp_path, document=document(tmp_path, served)) as tools,
    ):
        assert list(tools) == ["getOrder", "delete_orders_number", "orders_create"]
        assert tools["getOrder"].spec.description == "One order with its lines."
        assert tools["getOrder"].spec.parameters == {
            "type": "object",
            "properties": {
                "number": {"type": "integer"},
                "fields": {"type": "array", "items": {"type": "string"}},
                "X-Desk": {"type": "string"},
                "till": {"type": "string"},
            },
            "required": ["number"],
            "additionalProperties": False,
        }
        effects = [tool.limits.effects for tool in tools.values()]  # type: ignore[attr-defined]
        assert effects == ["none", "repeatable", "once"]


async def test_a_body_is_one_argument_without_what_the_service_sets(tmp_path: Path) -> None:
    async with (
        service(fine) as served,
        opened(OpenApi, tmp_path, document=document(tmp_path, served)) as tools,
    ):
        schema = tools["orders_create"].spec.parameters
        body = schema["properties"]["body"]
        assert schema["required"] == ["body"]
        assert body["required"] == ["customer", "lines"]
        assert body["properties"]["customer"] == {"type": "string", "description": "Who buys."}
        line = body["properties"]["lines"]["items"]
        assert line["properties"]["parts"] == {"type": "array", "items": {"$ref": "#/$defs/Line"}}
        made = await call(tools, "orders_create", '{"body": {"customer": "Ann", "lines": []}}')
        assert made.text == '{"done":true,"path":"/v1/orders"}'
        assert served.last.body == '{"customer":"Ann","lines":[]}'
        assert served.last.headers["Content-Type"] == "application/json"
        wrong = await call(
            tools, "orders_create", '{"body": {"customer": "Ann", "lines": [{"parts": 1}]}}'
        )
        assert wrong.text == 'error: argument "body.lines[0].parts" must be array, not 1'


async def test_arguments_go_where_the_document_says(tmp_path: Path) -> None:
    asked = '{"number": 7, "fields": ["a b", "c"], "X-Desk": "4", "till": "x;y"}'
    async with (
        service(fine) as served,
        opened(OpenApi, tmp_path, document=document(tmp_path, served)) as tools,
    ):
        await call(tools, "getOrder", asked)
        assert (served.last.method, served.last.path) == ("GET", "/v1/orders/7?fields=a%20b,c")
        assert served.last.headers["X-Desk"] == "4"
        assert served.last.headers["Cookie"] == "till=x%3By"
        assert (await call(tools, "delete_orders_number", '{"number": 7}')).state == "done"
        assert served.last.method == "DELETE"


async def test_only_what_must_not_happen_twice_is_sent_with_a_key(tmp_path: Path) -> None:
    async with (
        service(fine) as served,
        opened(OpenApi, tmp_path, document=document(tmp_path, served)) as tools,
    ):
        with call_key("k-1"):
            await tools["orders_create"].call({"body": {"customer": "Ann", "lines": []}})
            assert served.last.headers["Idempotency-Key"] == "k-1"
            await tools["getOrder"].call({"number": 1})
            assert "Idempotency-Key" not in served.last.headers


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"only": ["reading"]}, ["getOrder"]),
        ({"only": ["getOrder", "POST /orders"]}, ["getOrder", "orders_create"]),
        ({"only": ["orders.create"]}, ["orders_create"]),
        ({"except": ["writing", "delete_orders_number"]}, ["getOrder"]),
    ],
)
async def test_operations_are_chosen(
    tmp_path: Path, options: dict[str, Any], names: list[str]
) -> None:
    async with service(fine) as served:
        named = document(tmp_path, served)
        async with opened(OpenApi, tmp_path, document=named, **options) as tools:
            assert list(tools) == names
        with pytest.raises(UsageError, match=r'no operation or tag "getOrdr". Did you mean "getO'):
            async with opened(OpenApi, tmp_path, document=named, only=["getOrdr"]):
                pass


async def test_a_document_may_be_fetched_and_its_server_relative(tmp_path: Path) -> None:
    whole = {
        "openapi": "3.0.0",
        "servers": [{"url": "../api"}],
        "paths": {"/now": {"get": {"responses": {}}}},
    }

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(whole if request.path.endswith(".json") else request.path)

    async with (
        service(answer) as served,
        opened(OpenApi, tmp_path, document=f"{served.url}/docs/v1.json") as tools,
    ):
        assert (await call(tools, "get_now")).text == '"/api/now"'


async def test_swagger_2_is_read_too(tmp_path: Path) -> None:
    whole = {
        "swagger": "2.0",
        "host": "HOST",
        "basePath": "/old",
        "schemes": ["http"],
        "consumes": ["application/json"],
        "securityDefinitions": {"desk": {"type": "basic"}},
        "security": [{"desk": []}],
        "parameters": {"N": {"name": "n", "in": "path", "required": True, "type": "integer"}},
        "definitions": {"Line": {"type": "object", "properties": {"item": {"type": "string"}}}},
        "paths": {
            "/orders/{n}": {
                "parameters": [{"$ref": "#/parameters/N"}],
                "get": {
                    "operationId": "find",
                    "parameters": [
                        {
                            "name": "tag",
                            "in": "query",
                            "type": "array",
                            "items": {"type": "string", "enum": ["a", "b"]},
                            "collectionFormat": "multi",
                        }
                    ],
                    "responses": {},
                },
                "put": {
                    "operationId": "change",
                    "parameters": [
                        {"name": "line", "in": "body", "schema": {"$ref": "#/definitions/Line"}}
                    ],
                    "responses": {},
                },
                "post": {
                    "operationId": "note",
                    "parameters": [
                        {"name": "text", "in": "formData", "type": "string", "required": True}
                    ],
                    "consumes": ["application/x-www-form-urlencoded"],
                    "responses": {},
                },
            }
        },
    }
    login = {"desk": {"user": "ann", "password": "pw"}}
    async with service(fine) as served:
        named = document(tmp_path, served, json.dumps(whole))
        async with opened(OpenApi, tmp_path, document=named, auth=login) as tools:
            await call(tools, "find", '{"n": 3, "tag": ["a", "b"]}')
            assert served.last.path == "/old/orders/3?tag=a&tag=b"
            signed = base64.b64encode(b"ann:pw").decode()
            assert served.last.headers["Authorization"] == f"Basic {signed}"
            await call(tools, "change", '{"n": 3, "body": {"item": "tea"}}')
            assert served.last.body == '{"item":"tea"}'
            await call(tools, "note", '{"n": 3, "body": {"text": "a&b"}}')
            assert served.last.body == "text=a%26b"


async def test_a_multipart_body_has_its_files(tmp_path: Path) -> None:
    rules = {
        "type": "object",
        "properties": {"title": {"type": "string"}, "scan": {"type": "string", "format": "binary"}},
    }
    body = {"content": {"multipart/form-data": {"schema": rules}}}
    async with service(fine) as served:
        named = document(tmp_path, served, one({"requestBody": body}).replace('"get"', '"post"'))
        async with opened(OpenApi, tmp_path, document=named) as tools:
            await call(tools, "x", '{"body": {"title": "A", "scan": "text"}}')
    assert served.last.headers["Content-Type"].startswith("multipart/form-data; boundary=")
    assert 'name="scan"; filename="scan.txt"' in served.last.body


def secured(*ways: dict[str, list[str]], **schemes: Any) -> str:
    return one({"security": list(ways)}, components={"securitySchemes": schemes})


KEY = {"type": "apiKey", "name": "X-Key", "in": "header"}


@pytest.mark.parametrize(
    ("scheme", "given", "sent"),
    [
        (KEY, "s3cret", lambda a: a.headers["X-Key"] == "s3cret"),
        ({**KEY, "in": "query"}, "s3 cret", lambda a: a.path == "/x?X-Key=s3%20cret"),
        ({**KEY, "in": "cookie"}, "s3cret", lambda a: a.headers["Cookie"] == "X-Key=s3cret"),
        (
            {"type": "http", "scheme": "bearer"},
            "t-1",
            lambda a: a.headers["Authorization"] == "Bearer t-1",
        ),
        (
            {"type": "http", "scheme": "Basic"},
            {"user": "ann", "password": "ü"},
            lambda a: base64.b64decode(a.headers["Authorization"][6:]).decode() == "ann:ü",
        ),
        (
            {"type": "openIdConnect", "openIdConnectUrl": "http://x"},
            "caller",
            lambda a: a.headers["Authorization"] == "Bearer anns-own",
        ),
    ],
)
async def test_the_documents_schemes_are_honoured(
    tmp_path: Path, scheme: Any, given: Any, sent: Callable[[Any], bool]
) -> None:
    async with service(fine) as served:
        named = document(tmp_path, served, secured({"s": []}, s=scheme))
        async with opened(OpenApi, tmp_path, document=named, auth={"s": given}) as tools:
            with acting_for(Caller(user="ann", token=SecretStr("anns-own"))):
                assert (await call(tools, "x")).state == "done"
    assert sent(served.last)


async def test_a_caller_without_a_token_is_told_so_and_nothing_is_sent(tmp_path: Path) -> None:
    async with service(fine) as served:
        bearer = {"type": "http", "scheme": "bearer"}
        named = document(tmp_path, served, secured({"s": []}, s=bearer))
        async with opened(OpenApi, tmp_path, document=named, auth={"s": "caller"}) as tools:
            result = await call(tools, "x")
    assert result.text == (
        "error: the service is asked with the caller's own token, and this caller has none"
    )
    assert served.asked == []


async def test_the_first_way_in_for_which_there_is_all_is_taken(tmp_path: Path) -> None:
    other = {"type": "http", "scheme": "bearer"}
    text = secured({}, {"a": [], "b": []}, {"b": []}, a=KEY, b=other)
    async with service(fine) as served:
        named = document(tmp_path, served, text)
        async with opened(OpenApi, tmp_path, document=named, auth={"b": "t"}) as tools:
            await call(tools, "x")
            assert "X-Key" not in served.last.headers
            assert served.last.headers["Authorization"] == "Bearer t"
        async with opened(OpenApi, tmp_path, document=named) as tools:
            await call(tools, "x")
            assert "Authorization" not in served.last.headers


@pytest.mark.parametrize(
    ("auth", "told"),
    [
        ({}, "x wants credentials for a with b. Name them under `auth:`"),
        ({"c": "k"}, 'has no security scheme "c"'),
        ({"a": {"user": "u", "password": "p"}}, "the scheme a takes a key"),
        ({"a": "${KICKWHEEL_TEST_UNSET}"}, "KICKWHEEL_TEST_UNSET} is not set"),
        ({"o": {"client_id": "i", "client_secret": "s"}}, "where it has client credentials"),
    ],
)
async def test_credentials_that_do_not_fit_are_told_at_the_start(
    tmp_path: Path, auth: Any, told: str
) -> None:
    flow = {"type": "oauth2", "flows": {"implicit": {"authorizationUrl": "http://x"}}}
    basic = {"type": "http", "scheme": "basic"}
    async with service(fine) as served:
        text = secured({"a": [], "b": []}, a=KEY, b=basic, o=flow)
        named = document(tmp_path, served, text)
        with pytest.raises(UsageError, match=told.replace("$", r"\$")) as raised:
            async with opened(OpenApi, tmp_path, document=named, auth=auth):
                pass
    assert "password" not in str(raised.value) or "`" in str(raised.value)


async def test_a_token_is_fetched_kept_and_fetched_anew(tmp_path: Path) -> None:
    good: set[str] = set()
    given: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/token":
            given.append(f"t-{len(given)}")
            good.add(given[-1])
            return web.json_response({"access_token": given[-1], "expires_in": 3600})
        token = request.headers["Authorization"].removeprefix("Bearer ")
        return web.json_response({"for": token}, status=200 if token in good else 401)

    flow = {"clientCredentials": {"tokenUrl": "http://HOST/token", "scopes": {"read": ""}}}
    text = secured({"o": ["read"]}, o={"type": "oauth2", "flows": flow})
    secret = {"o": {"client_id": "us", "client_secret": "s/1"}}
    async with service(answer) as served:
        named = document(tmp_path, served, text)
        async with opened(OpenApi, tmp_path, document=named, auth=secret) as tools:
            texts = {r.text for r in await asyncio.gather(*(call(tools, "x") for _ in range(4)))}
            assert (texts, given) == ({'{"for":"t-0"}'}, ["t-0"])
            asked = served.asked[0]
            assert asked.body == "grant_type=client_credentials&scope=read"
            signed = base64.b64encode(b"us:s%2F1").decode()
            assert asked.headers["Authorization"] == f"Basic {signed}"
            good.clear()  # The service takes it back.
            assert (await call(tools, "x")).text == '{"for":"t-1"}'


async def test_no_token_is_no_call(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"error": "invalid_client", "you_sent": "s3cret"}, status=401)

    flow = {"clientCredentials": {"tokenUrl": "http://HOST/token", "scopes": {}}}
    text = secured({"o": []}, o={"type": "oauth2", "flows": flow})
    secret = {"o": {"client_id": "us", "client_secret": "s3cret"}}
    async with service(answer) as served:
        named = document(tmp_path, served, text)
        async with opened(OpenApi, tmp_path, document=named, auth=secret) as tools:
            result = await call(tools, "x")
    assert [asked.path for asked in served.asked] == ["/token"]
    assert result.text == f"error: {served.url} gave no token to us: it answers 401"


async def answered(
    tmp_path: Path, handler: Callable[[web.Request], Any], **options: Any
) -> tuple[str, Service]:
    async with service(handler) as served:
        named = document(tmp_path, served, secured({"a": []}, a=KEY))
        key = {"a": "s3cret-key"}
        async with opened(OpenApi, tmp_path, document=named, auth=key, **options) as tools:
            return await tools["x"].call({}), served


@pytest.mark.parametrize("status", [400, 422])
async def test_what_the_service_finds_wrong_the_model_may_mend(tmp_path: Path, status: int) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"message": "no such day"}, status=status)

    with pytest.raises(InvalidArguments, match=f"answers {status}: .*no such day"):
        await answered(tmp_path, answer)


@pytest.mark.parametrize(
    ("status", "lasting"), [(401, True), (403, True), (404, True), (409, True), (500, False)]
)
async def test_other_refusals_are_errors_without_our_secrets(
    tmp_path: Path, status: int, lasting: bool
) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=f"not with {request.headers['X-Key']}", status=status)

    with pytest.raises(ToolError, match=rf"answers {status}: not with \[secret\]") as raised:
        await answered(tmp_path, answer)
    assert raised.value.lasting == lasting


@pytest.mark.parametrize("status", [429, 503])
async def test_a_service_that_is_busy_says_when_to_come_back(tmp_path: Path, status: int) -> None:
    async def answer(request: web.Request) -> web.Response:
        page = "<html><title>Too\nbusy</title><body>…</body></html>"
        headers = {"Retry-After": "7"}
        return web.Response(text=page, content_type="text/html", status=status, headers=headers)

    with pytest.raises(ToolError, match=r": Too busy$") as raised:
        await answered(tmp_path, answer)
    assert (raised.value.retry_after_s, raised.value.lasting) == (7.0, False)


async def test_a_redirect_inside_the_service_is_followed(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/x":
            raise web.HTTPFound("/y?a=1")
        return web.Response(text=request.path_qs)

    assert (await answered(tmp_path, answer))[0] == "/y?a=1"


@pytest.mark.parametrize("place", ["http://127.0.0.2:9/x", "//localhost/x", "ftp://127.0.0.1/x"])
async def test_a_redirect_elsewhere_is_refused(tmp_path: Path, place: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        raise web.HTTPFound(place)

    with pytest.raises(ToolError, match="which is another service: it was not asked"):
        await answered(tmp_path, answer)


async def test_redirects_in_a_circle_end(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        raise web.HTTPFound("/x")

    with pytest.raises(ToolError, match="redirects in a circle"):
        await answered(tmp_path, answer)


async def test_a_service_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        await answered(tmp_path, fine, server="http://127.0.0.1:9")


async def test_an_endless_answer_is_cut_and_not_read_on(tmp_path: Path) -> None:
    sent = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)
            sent += 65536

    text, _ = await answered(tmp_path, answer)
    assert text.endswith(f"[cut: the answer is longer than {MOST_BYTES:,} bytes; ask for less]")
    assert len(text) < MOST_BYTES + 100
    assert sent < 10 * MOST_BYTES


async def test_an_answer_that_was_packed_small_stays_small(tmp_path: Path) -> None:
    packed = gzip.compress(b"0" * 100_000_000, 9)

    async def answer(request: web.Request) -> web.Response:
        headers = {"Content-Encoding": "gzip", "Content-Type": "text/plain"}
        return web.Response(body=packed, headers=headers)

    text, _ = await answered(tmp_path, answer)
    assert len(text) < MOST_BYTES + 100


@pytest.mark.parametrize(
    ("body", "kind", "told"),
    [
        (b'{"a": [1,  2.50]}', "application/problem+json", '{"a":[1,2.50]}'),
        (b"{broken", "application/json", "{broken"),
        ("Köln".encode("cp1252"), "text/plain", "Köln"),
        ("Köln".encode(), "text/plain", "Köln"),
        ("Łódź".encode("iso8859-2"), "text/plain; charset=ISO-8859-2", "Łódź"),
        (b"<a/>", "application/soap+xml", "<a/>"),
        (b"plain", "", "plain"),
        (b"", "text/plain", "done (200, and nothing else was said)"),
        (b"\x89PNG\r\n\x1a\n\0\0", "image/png", "done (200); the answer is image/png, 10 bytes: "
         "no text to be shown"),
        (b"\0\1\2", "", "done (200); the answer is application/octet-stream, 3 bytes: "
         "no text to be shown"),
    ],
)  # fmt: skip
async def test_an_answer_is_told_as_text(tmp_path: Path, body: bytes, kind: str, told: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if kind:
            response.headers["Content-Type"] = kind
        await response.prepare(request)
        await response.write(body)
        return response

    assert (await answered(tmp_path, answer))[0] == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is neither JSON nor YAML"),
        ("- a", "is no OpenAPI document"),
        ('{"openapi": "4.0"}', "has neither `openapi: 3"),
        ('{"openapi": "3.0.0", "paths": []}', "`paths` is no mapping"),
        ('{"openapi": "3.0.0", "paths": {"/x": {"get": {}}}}', "names no server that can be asked"),
        ('{"swagger": "2.0"}', "'paths' is missing"),
        (one({"parameters": [{"name": "a"}]}), "GET /x is not as OpenAPI has it: 'in' is missing"),
        (one({"parameters": [{"name": "a", "in": "mind"}]}), "in mind, which is no place"),
        (one({"parameters": [{"$ref": "#/components/none"}]}), "'components' is missing"),
        (one({"parameters": [{"$ref": "http://x/y.yml#/a"}]}), "leads to no file"),
        (one({}, path="/x/{n}"), "the path's parameter n is described nowhere"),
        (one({"parameters": 3}), "GET /x is not as OpenAPI has it"),
        (
            one({"requestBody": {"content": {"application/json": {"schema": {"$ref": "#/no"}}}}}),
            "leads nowhere",
        ),
        ("a: &a [1]\nb: &b [*a, *a]\n" + "".join(
            f"c{n}: &c{n} [*{'b' if n == 0 else f'c{n - 1}'}, *{'b' if n == 0 else f'c{n - 1}'}]\n"
            for n in range(24)
        ), "has more than 2,000,000 entries"),
    ],
)  # fmt: skip
async def test_a_broken_document_is_told_with_its_place(
    tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "orders.yml").write_text(text)
    with pytest.raises(UsageError, match=f"orders.yml: .*{told}"):
        async with opened(OpenApi, tmp_path, document="orders.yml"):
            pass


async def test_a_document_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone.yml: cannot be read: No such file"):
        async with opened(OpenApi, tmp_path, document="gone.yml"):
            pass
    with pytest.raises(UsageError, match=r"cannot be read: .* cannot be reached"):
        async with opened(OpenApi, tmp_path, document="http://127.0.0.1:9/x.json"):
            pass


async def test_names_are_unique_and_safe(tmp_path: Path) -> None:
    whole = {
        "openapi": "3.0.0",
        "servers": [{"url": "http://127.0.0.1:9"}],
        "paths": {
            f"/{n}": {"get": {"operationId": name, "responses": {}}}
            for n, name in enumerate(["a b", "a.b", "ä", "x" * 80, "x" * 90])
        },
    }
    (tmp_path / "orders.yml").write_text(json.dumps(whole))
    async with opened(OpenApi, tmp_path, document="orders.yml") as tools:
        assert list(tools) == ["a_b", "a_b_2", "_", "x" * 64, "x" * 62 + "_2"]


async def test_openapi_3_0_says_null_and_bounds_in_its_own_words(tmp_path: Path) -> None:
    rules = {"type": "number", "nullable": True, "minimum": 0, "exclusiveMinimum": True}
    text = one({"parameters": [{"name": "n", "in": "query", "schema": rules}]})
    (tmp_path / "orders.yml").write_text(text.replace("HOST", "127.0.0.1:9"))
    async with opened(OpenApi, tmp_path, document="orders.yml") as tools:
        found = tools["x"].spec.parameters["properties"]["n"]
    assert found == {"type": ["number", "null"], "exclusiveMinimum": 0}


async def test_arguments_of_one_name_are_told_apart(tmp_path: Path) -> None:
    parameters = [
        {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}},
        {"name": "id", "in": "query", "schema": {"type": "string"}},
        {"name": "filter[a]", "in": "query", "schema": {"type": "string"}},
    ]
    async with service(fine) as served:
        text = one({"parameters": parameters}, path="/x/{id}")
        named = document(tmp_path, served, text)
        async with opened(OpenApi, tmp_path, document=named) as tools:
            await call(tools, "x", '{"id": "../1", "id_query": "2", "filter_a": "3"}')
    assert served.last.path == "/x/..%2F1?id=2&filter%5Ba%5D=3"


def test_options_that_do_not_fit_are_told_with_their_line(tmp_path: Path) -> None:
    assert mistakes(OpenApi, "kind: openapi\nonly: [a]\nservr: x", tmp_path) == [
        '1: document: "document" is missing: Path or URL of the document: OpenAPI 3.0 or 3.1 or '
        "Swagger 2.0, as JSON or YAML.",
        '3: servr: no option "servr" here. Did you mean "server"?',
    ]


async def test_a_document_in_several_files_is_read_as_one(tmp_path: Path) -> None:
    (tmp_path / "api" / "parts").mkdir(parents=True)
    (tmp_path / "api" / "main.yml").write_text(
        """
openapi: 3.0.3
servers: [{url: "http://127.0.0.1:9"}]
paths:
  /orders: {$ref: "parts/orders.yml#/all"}
components: {schemas: {Name: {type: string}}}
"""
    )
    (tmp_path / "api" / "parts" / "orders.yml").write_text(
        """
all:
  post:
    operationId: make
    requestBody: {content: {application/json: {schema: {$ref: "#/Order"}}}}
    responses: {}
Order:
  type: object
  properties:
    customer: {$ref: "../main.yml#/components/schemas/Name"}
    line: {$ref: "line.json"}
    after: {$ref: "#/Order"}
"""
    )
    (tmp_path / "api" / "parts" / "line.json").write_text('{"type": "integer"}')
    async with opened(OpenApi, tmp_path, document="api/main.yml") as tools:
        body = tools["make"].spec.parameters["properties"]["body"]["properties"]
    assert (body["customer"], body["line"]) == ({"type": "string"}, {"type": "integer"})
    assert body["after"] == {"$ref": "#/$defs/Order"}


@pytest.mark.parametrize("reference", ["../secret.yml#/a", "gone.yml#/a", "Order"])
async def test_other_files_lie_in_the_documents_folder(tmp_path: Path, reference: str) -> None:
    (tmp_path / "api").mkdir()
    (tmp_path / "secret.yml").write_text("a: 1")
    whole = one({"parameters": [{"$ref": reference}]})
    (tmp_path / "api" / "main.yml").write_text(whole)
    with pytest.raises(
        UsageError, match=r"GET /x is not .* leads to no file in the document's fol"
    ):
        async with opened(OpenApi, tmp_path, document="api/main.yml"):
            pass
    unused = one({"responses": {"200": {"$ref": reference}}}).replace("HOST", "127.0.0.1:9")
    (tmp_path / "api" / "main.yml").write_text(unused)
    async with opened(OpenApi, tmp_path, document="api/main.yml") as tools:
        assert list(tools) == ["x"]


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just({"$ref": "#/paths"}),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), wrong=ANY)
def test_whatever_is_wrong_in_a_document_is_told(data: st.DataObject, wrong: Any) -> None:
    whole = parsed(YAML.replace("HOST", "x").encode(), "orders.yml")
    node: Any = whole
    for _ in range(data.draw(st.integers(0, 9))):
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(node[key], dict | list) or not node[key]:
            break
        parent, node = node, node[key]
        if data.draw(st.booleans()):
            parent[key] = wrong
            break
    with suppress(UsageError):
        for operation in apidoc.read(whole, "orders.yml").operations:
            json.dumps(operation.schema)


async def test_where_a_new_thing_is_to_be_found_is_told(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=201, headers={"Location": "/orders/12"})

    assert (await answered(tmp_path, answer))[0] == "done (201; location: /orders/12)"


def test_credentials_of_no_known_form_are_told_with_their_line(tmp_path: Path) -> None:
    auth = "  a: {user: x}\n  b: [1]\n  c: {client_id: x, client_secret: y, more: 1}"
    assert mistakes(OpenApi, f"kind: openapi\ndocument: x\nauth:\n{auth}", tmp_path) == [
        '4: auth.a.password: "password" is missing',
        "5: auth.b: must be ${NAME} of a key or token, `caller`, `user` and `password`, "
        "`client_id` and `client_secret`, or `certificate` and `key`",
        '6: auth.c.more: no option "more" here.',
    ]


async def test_a_path_is_sent_as_urls_are_written(tmp_path: Path) -> None:
    async with service(fine) as served:
        query = {"name": "q", "in": "query", "schema": {"type": "string"}}
        text = one({"parameters": [query]}, path="/alte Aufträge?all=1")
        named = document(tmp_path, served, text)
        async with opened(OpenApi, tmp_path, document=named) as tools:
            await call(tools, "x", '{"q": "a"}')
    assert served.last.path == "/alte%20Auftr%C3%A4ge?all=1&q=a"


async def test_an_operation_that_is_left_out_may_be_broken(tmp_path: Path) -> None:
    paths = {"/a": {"get": {"responses": {}}}, "/b": {"get": {"parameters": 3}}}
    whole = {"openapi": "3.0.0", "servers": [{"url": "http://127.0.0.1:9"}], "paths": paths}
    (tmp_path / "orders.yml").write_text(json.dumps(whole))
    with pytest.raises(UsageError, match="GET /b is not as OpenAPI has it"):
        async with opened(OpenApi, tmp_path, document="orders.yml"):
            pass
    async with opened(OpenApi, tmp_path, document="orders.yml", **{"except": ["get_b"]}) as tools:
        assert list(tools) == ["get_a"]
