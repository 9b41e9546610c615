"""Hooks for schemathesis: some of what it makes up is about things that are there, so that it gets beyond a 404."""

from typing import Any

import schemathesis

THERE = {"device_id": "edge-1", "module_id": "$edgeAgent", "name": "north"}
QUERIES = [
    "SELECT * FROM devices",
    "SELECT deviceId, tags.site FROM devices WHERE tags.site = 'north'",
    "SELECT tags.site, COUNT() AS n FROM devices GROUP BY tags.site",
    "SELECT * FROM devices.modules WHERE moduleId = '$edgeAgent'",
    "SELECT * FROM devices.jobs",
]
_COMMANDS = [
    '{"command": "PatchTags", "device_id": "edge-1", "tags": {"site": "north"}}',
    '{"command": "RegisterDevice", "device_id": "edge-2"}',
    "{",
]


@schemathesis.hook
def map_path_parameters(_context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Every other name is that of something that is there."""
    if path_parameters is None:
        return None
    return {
        name: THERE[name] if name in THERE and len(str(value)) % 2 else value for name, value in path_parameters.items()
    }


@schemathesis.hook
def map_body(_context: Any, body: Any) -> Any:
    """A text that is to be a query is one."""
    if isinstance(body, dict) and isinstance(body.get("query"), str):
        return {**body, "query": QUERIES[len(body["query"]) % len(QUERIES)]}
    return body


@schemathesis.serializer("application/x-ndjson")
def lines(_context: Any, value: Any) -> bytes:
    """The description knows of lines no more than that they are text: every other one is a command."""
    text = str(value)
    return "\n".join([text, *_COMMANDS][len(text) % 2 :]).encode(errors="replace")
