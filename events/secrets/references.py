"""Replaces the secrets in a deployment's content by references, and references by secrets."""

import re
from collections.abc import Callable
from typing import Any

import msgspec
from typing_extensions import override

from events.canonical import Json, JsonObject
from events.properties import SECRET, STRING_BYTES_MAX, is_secret
from events.secrets.errors import SecretTextInvalid

SECRET_TEXT = "$secret_text"  # noqa: S105 - the name of a mark's only key, not a secret
MASK = "***"
_SECRET_KEY = f'"{SECRET}"'.encode()

_AGENT = "$edgeAgent"
_DESIRED = ["properties", "desired"]
_ANY = "*"
_PASSWORD = ("runtime", "settings", "registryCredentials", _ANY, "password")
_VARIABLES = tuple((group, _ANY, "env", _ANY, "value") for group in ("modules", "systemModules"))
_DEPTH = len(_PASSWORD)
_half_a_pair = re.compile("[\ud800-\udfff]").search


class Secret(msgspec.Struct, frozen=True):
    """A value that was taken out, with the id of its reference. Its `repr` does not show the value."""

    id: str
    plaintext: str

    @override
    def __repr__(self) -> str:
        return f"Secret(id={self.id!r}, plaintext={MASK})"

    @override
    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("id", self.id), ("plaintext", MASK)]


def extract(content: JsonObject, *, new_id: Callable[[], str]) -> tuple[JsonObject, tuple[Secret, ...]]:
    """A copy of a content, standard or layered, with references in place of its secrets, and those secrets.

    Secrets are every registry password, and every environment variable written `{"value": {"$secret_text": "…"}}`. Existing
    references stay. A value that is not a content, or a blank password, is returned as it is; the manifest's rules reject it.
    Raises as `checked_text`.
    """
    secrets: list[Secret] = []

    def reference(value: Json, location: tuple[str, ...]) -> Json:
        secrets.append(Secret(new_id(), checked_text(value, ".".join((_AGENT, *_DESIRED, *location)))))
        return {SECRET: secrets[-1].id}

    def taken(value: Json, location: tuple[str, ...]) -> Json:
        """The value with references in place of its secrets; visited only as deep as secrets can be."""
        of_password = _leads_to(location, _PASSWORD)
        if not of_password and not any(_leads_to(location, variable) for variable in _VARIABLES):
            return value
        if len(location) < _DEPTH:
            if not isinstance(value, dict):
                return value
            return {name: taken(below, (*location, name)) for name, below in value.items()}
        if not of_password:
            is_secret_text = len(location) == _DEPTH and isinstance(value, dict) and value.keys() == {SECRET_TEXT}
            return reference(value[SECRET_TEXT], location) if is_secret_text else value
        if value is None or is_secret(value) or (isinstance(value, str) and not value.strip()):
            return value
        # Any other value there, or below, is meant as a password too, and would be in the log in plain text.
        return reference(value if len(location) == _DEPTH else {}, location)

    # Of any type: this runs before the content is checked, so that no check can quote a secret in its message.
    unchecked: Json = content
    modules = unchecked.get("modulesContent") if isinstance(unchecked, dict) else None
    agent = modules.get(_AGENT) if isinstance(modules, dict) else None
    if isinstance(modules, dict) and isinstance(agent, dict):
        replaced: JsonObject = {}
        # The keys are flat, such as `properties.desired.modules.temp`.
        for path, value in agent.items():
            segments = path.split(".")
            replaced[path] = taken(value, tuple(segments[2:])) if segments[:2] == _DESIRED else value
        content = {**content, "modulesContent": {**modules, _AGENT: replaced}}
    return content, tuple(secrets)


def materialise(value: Json, reveal: Callable[[str], Json]) -> Json:
    """A copy of a value with every reference replaced by the result of `reveal` for its id."""
    # Without recursion: a caller's JSON could be nested deeply enough to exhaust the interpreter's stack.
    holder = [value]
    locations: list[tuple[Any, Any]] = [(holder, 0)]
    for parent, key in locations:
        node = parent[key]
        if is_secret(node):
            parent[key] = reveal(node[SECRET])
        elif isinstance(node, dict):
            parent[key] = below = dict(node)
            locations.extend((below, name) for name in below)
        elif isinstance(node, list):
            parent[key] = items = list(node)
            locations.extend((items, number) for number in range(len(items)))
    return holder[0]


def mask(value: Json) -> Json:
    """A copy of a value with `***` in place of every reference, for readers who may not see ids either."""
    return materialise(value, lambda _: MASK)


def mask_stored(value: Json) -> Json:
    """As `mask`, for a value of a stored document; the value itself if it has no reference."""
    # Most have none. The encoded form, in which the key of a reference is as it is, shows that at a tenth of the cost of a copy.
    return mask(value) if _SECRET_KEY in msgspec.json.encode(value) else value


def references(value: Json) -> frozenset[str]:
    """The ids of all secrets that a value refers to."""
    ids: set[str] = set()
    nodes = [value]
    for node in nodes:
        if is_secret(node):
            ids.add(node[SECRET])
        elif isinstance(node, dict):
            nodes.extend(node.values())
        elif isinstance(node, list):
            nodes.extend(node)
    return frozenset(ids)


def _leads_to(location: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a location is above, at or below the locations of a pattern."""
    return all(segment in (_ANY, name) for name, segment in zip(location, pattern, strict=False))


def checked_text(value: Json, path: str, *, of_text: str = "", if_blank: str = "") -> str:
    """The value, a text of up to 4,096 bytes, not blank; else SecretTextInvalid, whose messages the texts end."""
    if not isinstance(value, str):
        raise SecretTextInvalid(path, f"must be a text{of_text}")
    if not value.strip():
        raise SecretTextInvalid(path, f"must not be blank{if_blank}")
    if _half_a_pair(value):
        raise SecretTextInvalid(path, "must have whole characters, this one has half a surrogate pair")
    if (length := len(value.encode())) > STRING_BYTES_MAX:
        raise SecretTextInvalid(path, f"has at most {STRING_BYTES_MAX} bytes, this one has {length}")
    return value
