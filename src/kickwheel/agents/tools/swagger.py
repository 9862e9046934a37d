"""Swagger 2.0 said in OpenAPI 3.0, as far as requests go.

References stay where they lead: `#/definitions/…` is found in the new document as well.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from kickwheel.core.schema import pointed

_NO_RULES = frozenset(("name", "in", "required", "description", "collectionFormat"))
_STYLES: Mapping[str, Mapping[str, Any]] = {
    "multi": {"style": "form", "explode": True},
    "ssv": {"style": "spaceDelimited", "explode": False},
    "pipes": {"style": "pipeDelimited", "explode": False},
}


def as_openapi(document: Mapping[str, Any], base: str | None) -> dict[str, Any]:
    """The document in OpenAPI 3.0.

    Args:
        base: the URL that it came from, where it came from one.
    Raises:
        LookupError, TypeError, AttributeError, ValueError: it is not as Swagger has it.
    """
    schemes = document.get("securityDefinitions") or {}
    return {
        **document,
        "openapi": "3.0.0",
        "servers": [{"url": _server(document, base)}],
        "paths": {path: _item(item, document) for path, item in document["paths"].items()},
        "components": {"securitySchemes": {name: _scheme(s) for name, s in schemes.items()}},
    }


def _server(document: Mapping[str, Any], base: str | None) -> str:
    path = document.get("basePath") or "/"
    if "host" not in document:
        return str(path)
    known = list(document.get("schemes") or ()) or [urlsplit(base or "https:").scheme]
    scheme = "https" if "https" in known else known[0]
    return f"{scheme}://{document['host']}{path}"


def _item(item: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    shared = item.get("parameters") or []
    return {
        key: _operation(said, shared, document)
        if isinstance(said, dict) and "responses" in said
        else said
        for key, said in item.items()
        if key != "parameters"
    }


def _operation(
    said: Mapping[str, Any], shared: list[Any], document: Mapping[str, Any]
) -> dict[str, Any]:
    every: dict[tuple[str, str], Mapping[str, Any]] = {}
    for entry in (*shared, *(said.get("parameters") or ())):
        about = pointed(document, entry["$ref"]) if "$ref" in entry else entry
        every[about["in"], about["name"]] = about
    takes = said.get("consumes") or document.get("consumes") or ["application/json"]
    operation = {key: value for key, value in said.items() if key != "parameters"}
    operation["parameters"] = [
        _parameter(about)
        for (place, _), about in every.items()
        if place not in ("body", "formData")
    ]
    bodies = [about for (place, _), about in every.items() if place == "body"]
    forms = [about for (place, _), about in every.items() if place == "formData"]
    if bodies:
        operation["requestBody"] = {
            "description": bodies[0].get("description") or "",
            "required": bool(bodies[0].get("required")),
            "content": {media: {"schema": bodies[0].get("schema") or {}} for media in takes},
        }
    elif forms:
        operation["requestBody"] = _form(forms, takes)
    return operation


def _parameter(about: Mapping[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in about.items() if k in ("name", "in", "required", "description")}
    more = _STYLES.get(about.get("collectionFormat") or "csv", {"explode": False})
    return {**kept, **(more if about.get("type") == "array" else {}), "schema": _schema(about)}


def _form(fields: list[Mapping[str, Any]], takes: list[str]) -> dict[str, Any]:
    many = any(f.get("type") == "file" for f in fields) or "multipart/form-data" in takes
    media = "multipart/form-data" if many else "application/x-www-form-urlencoded"
    required = [field["name"] for field in fields if field.get("required")]
    properties = {
        field["name"]: {**_schema(field), "description": field.get("description") or ""}
        for field in fields
    }
    schema = {"type": "object", "properties": properties, "required": required}
    return {"required": bool(required), "content": {media: {"schema": schema}}}


def _schema(about: Mapping[str, Any]) -> dict[str, Any]:
    if about.get("type") == "file":
        return {"type": "string", "format": "binary"}
    return {key: value for key, value in about.items() if key not in _NO_RULES}


def _scheme(said: Mapping[str, Any]) -> dict[str, Any]:
    if said["type"] == "basic":
        return {"type": "http", "scheme": "basic"}
    if said["type"] == "oauth2" and said.get("flow") == "application":
        flow = {"tokenUrl": said["tokenUrl"], "scopes": said.get("scopes") or {}}
        return {"type": "oauth2", "flows": {"clientCredentials": flow}}
    return dict(said)
