"""The names of members: snake_case, as the log stores them, camelCase, as the API has them, and as messages name them in backticks."""

import re
from collections.abc import Callable
from typing import Any

import msgspec

from events.canonical import JsonObject

_UNDERSCORE = re.compile("_([a-z0-9])")
_NAMED = re.compile(r"`([A-Za-z_][A-Za-z0-9_]*(?:\[[0-9]+\]|\.[A-Za-z_][A-Za-z0-9_]*)*)`")
_OTHERWISE = {"schedule.start_at": "schedule.start", "schedule.end_at": "schedule.end"}


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


def renamed(message: str, name_of: Callable[[str], str]) -> str:
    """A message with each name in backticks replaced by `name_of` of it."""
    return _NAMED.sub(lambda match: name_of(match[1]), message)


def in_body_names(message: str) -> str:
    """A message for the sender of a JSON body, where `offline_seconds` is `offlineSeconds`."""
    return renamed(message, lambda name: f"`{body_name(name)}`")


def body_name(name: str) -> str:
    """The name of a command's member in a JSON body."""
    return camel_case(_OTHERWISE.get(name, name))
