"""The OpenAPI document: FastAPI's own for its routes, and each operation's path made from its declaration."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway.documents import JobDocument, JobRequest, Problem
from gateway.jobs.submit import MAX_IDEMPOTENCY_KEY
from gateway.problems import documented
from services.errors import (
    BadInput,
    BadUpstream,
    DarkroomError,
    DeadlineExceeded,
    Forbidden,
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
    _hoist(JobRequest.model_json_schema(ref_template=_REF), "JobRequest", schemas)
    operations = {f"/v1/{kind.name()}": {"post": _path(kind, schemas)} for kind in OPERATIONS.values()}
    document["paths"] = operations | document["paths"]  # what people come for stands first
    document["tags"] = [
        {"name": name} for name in ("operations", "jobs", "assets", "catalogue", "admin", "health")
    ]
    for path in document["paths"].values():
        for route in path.values():
            _finish(route)
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{}, {"key": []}]
    return document


def _finish(route: dict[str, Any]) -> None:
    """What holds of every route: errors are Problems, and answers carry the headers that they carry."""
    answers = route["responses"]
    errors = documented()
    if "description" in route:  # FastAPI would title it with the function's name
        route["summary"] = route["description"].splitlines()[0].partition(":")[0].rstrip(".")
    # FastAPI names its own form of a validation error, and the guards stand before every route
    if "HTTPValidationError" in str(answers.get("422", "")):
        answers["422"] = documented(BadInput)[BadInput.status]
    for status in (Forbidden.status, DarkroomError.status):
        answers.setdefault(str(status), errors[status])
    for status, answer in answers.items():
        headers = _HEADERS | _MORE_HEADERS.get(status, {})
        answer["headers"] = headers | answer.get("headers", {})


def _header(description: str, kind: str = "string") -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind}}


_HEADERS = {
    "X-Request-Id": _header("Names this call in the gateway's and the services' logs."),
    "RateLimit-Limit": _header(
        "Requests that this key may make at once, where its rate is limited.", "integer"
    ),
    "RateLimit-Remaining": _header("Requests that are left of them.", "integer"),
    "RateLimit-Reset": _header("Seconds until all of them are there again.", "integer"),
}
_RETRY = {"Retry-After": _header("Seconds after which to try again, where that may help.", "integer")}
_MORE_HEADERS = {
    "401": {"WWW-Authenticate": _header("`Bearer`: send `Authorization: Bearer KEY`.")},
    "429": _RETRY,
    "503": _RETRY,
}


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
        "parameters": [_PREFER, _IDEMPOTENCY],
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
            "200": {
                "description": "The work is done; or, with `Prefer: respond-async`, the job that this "
                "Idempotency-Key made before.",
                "headers": _PICTURE_HEADERS if issubclass(operation, Encoded) else {},
                "content": _answers(operation),
            },
            "202": {
                "description": "A job was made of it (`Prefer: respond-async`).",
                "headers": {"Location": _header("Where the job is read.")},
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


_IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "With `Prefer: respond-async`: a repeat within 24 hours gives the first job. "
    f"1 to {MAX_IDEMPOTENCY_KEY} characters.",
    "schema": {"type": "string"},
}
_PICTURE_HEADERS = {
    "X-Darkroom-Seed": _header(
        "The picture's seed, where it has one; with an answer of the picture's bytes.", "integer"
    ),
    "X-Darkroom-Model": _header("The model that made it; with an answer of the picture's bytes."),
    "X-Darkroom-Version": _header("The model's version, where TensorFlow Serving made it.", "integer"),
    "X-Darkroom-Size": _header("WIDTHxHEIGHT in pixels; with an answer of the picture's bytes."),
    "Server-Timing": _header("Milliseconds in line (`queue`) and at work (`run`)."),
}


def _form(schema: dict[str, Any], operation: type[Operation]) -> dict[str, Any]:
    """The same parameters as a form: a file for each picture, lists and objects as JSON text."""
    pictures = operation.picture_fields()
    properties = {}
    for field, value in schema["properties"].items():
        properties[field] = _without_null(value)
        if field in pictures:
            properties[field] = _as_file(properties[field])
    form = schema | {"properties": properties}
    if any(
        '"format": "picture"' in json.dumps(kind)
        for kind in operation.json_schema().get("$defs", {}).values()
    ):
        form["additionalProperties"] = _FILE | {
            "description": 'A picture that a parameter names as "part:NAME".'
        }
    return form


_FILE = {"type": "string", "format": "binary"}


def _as_file(value: dict[str, Any]) -> dict[str, Any]:
    if value.get("format") in ("picture", "mask"):
        return {key: given for key, given in value.items() if key != "format"} | _FILE
    return (
        value | {"anyOf": [_as_file(branch) for branch in value.get("anyOf", ())]}
        if "anyOf" in value
        else value
    )


def _without_null(value: dict[str, Any]) -> dict[str, Any]:
    """A form's field cannot be null: it is left out."""
    branches = [branch for branch in value.get("anyOf", ()) if branch.get("type") != "null"]
    if not branches:
        return value
    rest = {key: given for key, given in value.items() if key not in ("anyOf", "default")}
    if value.get("default") is not None:
        rest["default"] = value["default"]
    return {**branches[0], **rest} if len(branches) == 1 else {**rest, "anyOf": branches}


def _encoding(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        field: {"contentType": "application/json"}
        for field, value in schema["properties"].items()
        if _without_null(value).get("type") in ("array", "object")
    }


def _answers(operation: type[Operation]) -> dict[str, Any]:
    content: dict[str, Any] = {
        "application/json": {"schema": {"$ref": _REF.format(model="JobDocument")}},
        "text/event-stream": {
            "schema": {
                "description": "Events: accepted, progress, preview, result, then done or error.",
            }
        },
    }
    if issubclass(operation, Encoded):
        for kind in ("image/png", "image/jpeg", "image/webp"):
            content[kind] = {"schema": {"type": "string", "format": "binary"}}
    return content
