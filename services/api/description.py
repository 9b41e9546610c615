"""The description of the API as OpenAPI: FastAPI's, with the types of the answers and what all paths have in common."""

import itertools
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from events.canonical import JsonObject
from services.api.context.idempotency import HEADER
from services.api.context.point_in_time import AS_OF
from services.api.http.access import is_write
from services.api.http.errors import BAD_REQUEST, BUSY, TOO_MANY
from services.api.http.openapi import header
from services.api.http.router import answer_types_of

REQUEST_ID = "x-ms-request-id"

_KEY_PARAMETER = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "A text that you choose for this request: sent again with it, the request is done once (docs/reference/api.md).",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}


def describe(app: FastAPI) -> JsonObject:
    """The OpenAPI description of an application, with the answer types, headers and errors that FastAPI does not know."""
    described: JsonObject = app.openapi()
    for path in described["paths"].values():
        for method, operation in path.items():
            if is_write([method]):
                operation.setdefault("parameters", []).append(_KEY_PARAMETER)
            else:
                operation["responses"].pop("422", None)
            has_past = any(parameter["name"] == "at" for parameter in operation.get("parameters", ()))
            for status, answer in operation["responses"].items():
                headers = _headers_of(int(status), has_past=has_past)
                answer["headers"] = {**answer.get("headers", {}), **headers}
    # FastAPI describes its own answer to an invalid body. Ours is a 400, like that to every invalid input.
    for schema in ("HTTPValidationError", "ValidationError"):
        described["components"]["schemas"].pop(schema, None)
    _add_types(app, described)
    return described


def _headers_of(status: int, *, has_past: bool) -> dict[str, JsonObject]:
    headers = {}
    if has_past and status < BAD_REQUEST.status:
        as_of = "With `at`: the point in time of the answer; sent as `at`, it gives the same answer."
        headers[AS_OF] = header(as_of, required=False)
    headers[REQUEST_ID] = header("The id under which the log has the request.")
    if status >= BAD_REQUEST.status:
        # The hub answers a bulk change that is rejected in parts with a 400 without this header.
        headers["iothub-errorcode"] = header("The code of the error.", required=status != BAD_REQUEST.status)
    if status in {BUSY.status, TOO_MANY.status}:
        headers["Retry-After"] = header("Seconds to wait before a retry.", required=status == BUSY.status)
    return headers


def _add_types(app: FastAPI, described: JsonObject) -> None:
    """Add the schema of every answer with a type, and the structs that it consists of."""
    answers: list[tuple[dict[str, Any], tuple[Any, ...]]] = []
    for route in iter_route_contexts(app.routes):
        operations = described["paths"].get(route.path_format, {})
        for method in route.methods or ():
            responses = operations.get(method.lower(), {}).get("responses", {})
            answers += (
                (responses[str(status)], types)
                for status, types in answer_types_of(route.original_route).items()
                if types and str(status) in responses
            )
    # One by one: msgspec rejects a union of structs without tags. In a schema that is `anyOf`.
    schemas, components = msgspec.json.schema_components(
        [answer_type for _, types in answers for answer_type in types], ref_template="#/components/schemas/{name}"
    )
    remaining = iter(schemas)
    for response, types in answers:
        any_of = list(itertools.islice(remaining, len(types)))
        schema = any_of[0] if len(any_of) == 1 else {"anyOf": any_of}
        response["content"] = {"application/json": {"schema": schema}}
    for component in components.values():
        if component.get("type") == "object":
            # As it is written: with every member that has a default, and without any other. msgspec describes what it reads:
            # members with a default are optional there, and unknown members of most types are ignored.
            members = component["properties"]
            written = {*component["required"], *(name for name, member in members.items() if "default" in member)}
            component |= {"required": [name for name in members if name in written], "additionalProperties": False}
    # Of a body and an answer with the same name, one would silently describe the other.
    assert described["components"]["schemas"].keys().isdisjoint(components)
    described["components"]["schemas"].update(components)
