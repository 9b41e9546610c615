"""Converts names between snake_case, as the log stores them, and camelCase, as the API has them."""

import re
from collections.abc import Callable
from typing import Any

import msgspec

from events.canonical import JsonObject

_UNDERSCORE = re.compile("_([a-z0-9])")


def camel_case(name: str) -> str:
    """`soak_seconds` -> `soakSeconds`; also for a path, as in `phases[0].gate.soak_seconds`."""
    return _UNDERSCORE.sub(lambda match: match[1].upper(), name)


def snake_case(name: str) -> str:
    """`soakSeconds` -> `soak_seconds`."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def camel_json(value: Any) -> Any:
    """A struct, or structs in lists and objects, as JSON with camelCase names in every object."""
    return _renamed(msgspec.to_builtins(value), camel_case)


def snake_json(value: Any) -> Any:
    """The reverse of `camel_json`: JSON with snake_case names in every object."""
    return _renamed(value, snake_case)


def _renamed(value: Any, rename: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {rename(name): _renamed(member, rename) for name, member in value.items()}
    return [_renamed(item, rename) for item in value] if isinstance(value, list | tuple) else value


def camel_schema(struct: type[msgspec.Struct]) -> JsonObject:
    """The JSON schema of `camel_json` of a struct, without references; every member is required and no other is allowed."""
    _, components = msgspec.json.schema_components([struct], ref_template="{name}")

    def schema_of(schema: JsonObject) -> JsonObject:
        if "$ref" in schema:
            return schema_of(components[schema["$ref"]])
        if "properties" in schema:
            members = {camel_case(name): schema_of(member) for name, member in schema["properties"].items()}
            return {"type": "object", "properties": members, "required": [*members], "additionalProperties": False}
        if "anyOf" in schema:
            return {"anyOf": list(map(schema_of, schema["anyOf"]))}
        return {**schema, "items": schema_of(schema["items"])} if "items" in schema else schema

    return schema_of(components[struct.__name__])
