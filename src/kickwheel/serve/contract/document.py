"""The OpenAPI document of the routes that there are."""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import msgspec
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from kickwheel.serve.contract import shapes
from kickwheel.serve.contract.operations import OPERATIONS, Operation
from kickwheel.serve.contract.shapes import Schema

PATH = "/openapi.json"
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
_REFERENCE = "#/components/schemas/{name}"


def contract_route(
    routes: Iterable[BaseRoute], hot: Iterable[tuple[str, str]], *, keyed: bool
) -> Route:
    """The route of /openapi.json.

    Args:
        routes: all others.
        hot: method and path of what is answered beside them.
        keyed: whether a key is wanted.
    """
    there = [*hot, ("GET", PATH), *_served(routes)]
    # Most servers are never asked for it.
    made = cache(lambda: document(there, keyed=keyed))

    async def told(request: Request) -> JSONResponse:
        return JSONResponse(made())

    return Route(PATH, told, methods=["GET"])


def document(served: Iterable[tuple[str, str]], *, keyed: bool = False) -> dict[str, Any]:
    """The OpenAPI document of these methods and paths, in their order.

    Args:
        keyed: whether a key is wanted.
    """
    from importlib.metadata import version

    paths: dict[str, dict[str, Any]] = {}
    parts: dict[str, Schema] = {"Error": shapes.ERROR}
    for method, path in served:
        plain = _plain(path)
        operation = OPERATIONS.get((method, plain)) or Operation(does=f"{method} {plain}")
        paths.setdefault(plain, {})[method.lower()] = _described(operation, path, parts)
    whole: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "kickwheel", "version": version("kickwheel")},
        "paths": paths,
        "components": {"schemas": parts},
    }
    if keyed:
        whole["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        whole["security"] = [{"key": []}]
    return whole


def _served(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, str]]:
    for route in routes:
        if isinstance(route, Route):
            # A route that is an app of its own answers any method; what is said of it counts.
            known = [method for method, path in OPERATIONS if path == _plain(route.path)]
            for method in sorted(route.methods or known or ("GET", "POST")):
                if method != "HEAD":
                    yield method, route.path


def _plain(path: str) -> str:
    return _PARAMETER.sub(r"{\1}", path)


def _described(operation: Operation, path: str, parts: dict[str, Schema]) -> dict[str, Any]:
    contents = {operation.gives_as: {"schema": operation.gives}}
    if operation.streams:
        contents["text/event-stream"] = {"schema": shapes.EVENT}
    refused = {"content": {"application/json": {"schema": operation.refuses}}}
    described: dict[str, Any] = {
        "summary": operation.does,
        "responses": {
            str(operation.gives_with): {"description": "Done.", "content": contents},
            "4XX": {"description": "Refused; the text says why.", **refused},
            "5XX": {"description": "Failed; the text says why.", **refused},
        },
    }
    named = [_parameter(name, "path", shapes.TEXT) for name in _PARAMETER.findall(path)]
    named += [_parameter(name, "query", schema) for name, schema in operation.query.items()]
    if named:
        described["parameters"] = named
    if operation.takes is not None:
        schema = _body(operation.takes, parts)
        described["requestBody"] = {
            "required": True,
            "content": {operation.takes_as: {"schema": schema}},
        }
    return described


def _parameter(name: str, place: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}


def _body(takes: type | Mapping[str, Any], parts: dict[str, Schema]) -> Schema:
    """The schema of a body; what it refers to is added to `parts`."""
    if isinstance(takes, Mapping):
        return dict(takes)
    if issubclass(takes, BaseModel):
        whole = takes.model_json_schema(ref_template=_ref("{model}"))
        parts |= whole.pop("$defs", {})
        parts[takes.__name__] = whole
        return {"$ref": _ref(takes.__name__)}
    (schema,), known = msgspec.json.schema_components([takes], ref_template=_REFERENCE)
    parts |= known
    return schema


def _ref(name: str) -> str:
    return _REFERENCE.format(name=name)
