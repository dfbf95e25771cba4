"""The OpenAPI document: FastAPI's own for its routes, and each operation's path made from its declaration."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway.documents import JobDocument, Problem
from gateway.problems import documented
from services.errors import (
    BadInput,
    BadUpstream,
    DeadlineExceeded,
    Malformed,
    NotAcceptable,
    TooLarge,
    TooSlow,
    Unavailable,
    UnsupportedMedia,
)
from services.operations import OPERATIONS, Encoded, Operation

_REF = "#/components/schemas/{model}"
_ERRORS = (
    BadInput,
    Malformed,
    NotAcceptable,
    TooSlow,
    TooLarge,
    UnsupportedMedia,
    BadUpstream,
    Unavailable,
    DeadlineExceeded,
)
INTRODUCTION = """Pictures made, changed and described by model services behind one gateway.

Every operation can be asked for **synchronously** (`POST /v1/{operation}`) or as a durable **job** (`POST /v1/jobs`).
A picture goes in as a file part, as `asset:ID`, base64, a data URI or an address. Errors are
`application/problem+json`: they name the field and say what to do."""


def install(app: FastAPI) -> None:
    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = build(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def build(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title="Darkroom", version=app.version, description=INTRODUCTION, routes=app.routes)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    # every error of ours is a Problem; FastAPI's own form of a validation error is never sent
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for model in (Problem, JobDocument):
        _hoist(model.model_json_schema(ref_template=_REF, mode="serialization"), model.__name__, schemas)
    for operation in OPERATIONS.values():
        document["paths"][f"/v1/{operation.name()}"] = {"post": _path(operation, schemas)}
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{}, {"key": []}]
    return document


def _hoist(schema: dict[str, Any], name: str, schemas: dict[str, Any]) -> None:
    schemas.update(schema.pop("$defs", {}))
    schemas[name] = schema


def _path(operation: type[Operation], schemas: dict[str, Any]) -> dict[str, Any]:
    name = operation.__name__
    _hoist(operation.model_json_schema(ref_template=_REF), name, schemas)
    schemas[f"{name}Form"] = _form(schemas[name], operation)
    return {
        "operationId": operation.method(),
        "summary": operation.summary(),
        "tags": ["operations"],
        "parameters": [_PREFER],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {"$ref": _REF.format(model=f"{name}Form")},
                    "encoding": _encoding(schemas[name]),
                },
                "application/json": {"schema": {"$ref": _REF.format(model=name)}},
            },
        },
        "responses": {
            "200": {"description": "The work is done.", "content": _answers(operation)},
            "202": {
                "description": "A job was made of it (`Prefer: respond-async`).",
                "headers": {"Location": {"schema": {"type": "string"}}},
                "content": {"application/json": {"schema": {"$ref": _REF.format(model="JobDocument")}}},
            },
        }
        | {str(status): answer for status, answer in documented(*_ERRORS).items()},
    }


_PREFER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`respond-async` makes a job of the call; `wait=SECONDS` shortens its deadline.",
    "schema": {"type": "string"},
    "examples": {"job": {"value": "respond-async"}, "deadline": {"value": "wait=20"}},
}


def _form(schema: dict[str, Any], operation: type[Operation]) -> dict[str, Any]:
    """The same parameters as a form: a file for each picture, lists and objects as JSON text."""
    pictures = operation.picture_fields()
    properties = {}
    for field, value in schema["properties"].items():
        if field in pictures:
            properties[field] = {"type": "string", "format": "binary", "title": value.get("title", field)}
            properties[field] |= {"description": value["description"]} if "description" in value else {}
        else:
            properties[field] = value
    return schema | {"properties": properties}


def _encoding(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        field: {"contentType": "application/json"}
        for field, value in schema["properties"].items()
        if value.get("type") in ("array", "object")
    }


def _answers(operation: type[Operation]) -> dict[str, Any]:
    content: dict[str, Any] = {
        "application/json": {"schema": {"$ref": _REF.format(model="JobDocument")}},
        "text/event-stream": {
            "schema": {
                "type": "string",
                "description": "Events: accepted, progress, preview, result, then done or error.",
            }
        },
    }
    if issubclass(operation, Encoded):
        for kind in ("image/png", "image/jpeg", "image/webp"):
            content[kind] = {"schema": {"type": "string", "format": "binary"}}
    return content
