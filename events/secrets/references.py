"""Replaces the secrets in a deployment's content by references, and references by secrets."""

import re
from collections.abc import Callable, Collection
from typing import Any

import msgspec
from typing_extensions import override

from events.canonical import Json, JsonObject
from events.properties import SECRET, STRING_BYTES_MAX, is_secret
from events.secrets.errors import MarkNotFound, SecretTextInvalid

SECRET_TEXT = "$secret_text"  # noqa: S105 - the name of a mark's only key, not a secret
MASK = "***"

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


def extract(
    content: JsonObject, *, new_id: Callable[[], str], marked: Collection[str] = ()
) -> tuple[JsonObject, tuple[Secret, ...]]:
    """A copy of a content, standard or layered, with references in place of its secrets, and those secrets.

    Secrets are every registry password, every environment variable written `{"value": {"$secret_text": "…"}}`, and
    the variables that `marked` names as `modules.<module>.env.<variable>` (or `systemModules.…`). Existing references stay.
    A value that is not a content, or a blank password, is returned as it is; the manifest's rules reject it.

    Raises:
        SecretTextInvalid: a secret is not a text, or is over 4,096 bytes.
        MarkNotFound: a mark names a variable that the content does not set.
    """
    extraction = _Extraction(new_id, frozenset(marked))
    # Of any type: this runs before the content is checked, so that no check can quote a secret in its message.
    unchecked: Json = content
    modules = unchecked.get("modulesContent") if isinstance(unchecked, dict) else None
    agent = modules.get(_AGENT) if isinstance(modules, dict) else None
    if isinstance(modules, dict) and isinstance(agent, dict):
        replaced = {path: extraction.below(value, path) for path, value in agent.items()}
        content = {**content, "modulesContent": {**modules, _AGENT: replaced}}
    if extraction.unmatched_marks:
        raise MarkNotFound(min(extraction.unmatched_marks))
    return content, tuple(extraction.secrets)


def materialise(value: Json, reveal: Callable[[str], Json]) -> Json:
    """A copy of a value with every reference replaced by the result of `reveal` for its id."""
    return _replaced(value, reveal)


def mask(value: Json) -> Json:
    """A copy of a value with `***` in place of every reference, for readers who may not see ids either."""
    return _replaced(value, lambda _: MASK)


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


def _replaced(value: Json, text_of: Callable[[str], Json]) -> Json:
    # Without recursion: a caller's JSON could be nested deeply enough to exhaust the interpreter's stack.
    holder = [value]
    locations: list[tuple[Any, Any]] = [(holder, 0)]
    for parent, key in locations:
        node = parent[key]
        if is_secret(node):
            parent[key] = text_of(node[SECRET])
        elif isinstance(node, dict):
            parent[key] = below = dict(node)
            locations.extend((below, name) for name in below)
        elif isinstance(node, list):
            parent[key] = items = list(node)
            locations.extend((items, number) for number in range(len(items)))
    return holder[0]


class _Extraction:
    """Takes the secrets out of one content; visits it only as deep as secrets can be."""

    def __init__(self, new_id: Callable[[], str], marked: frozenset[str]) -> None:
        self.secrets: list[Secret] = []
        self.unmatched_marks = set(marked)
        self._new_id = new_id
        self._marked = marked

    def below(self, value: Json, path: str) -> Json:
        """The value of a flat key such as `properties.desired.modules.temp`, with references in place of its secrets."""
        segments = path.split(".")
        return self._taken(value, tuple(segments[2:])) if segments[:2] == _DESIRED else value

    def _taken(self, value: Json, location: tuple[str, ...]) -> Json:
        if _leads_to(location, _PASSWORD):
            if len(location) >= _DEPTH:
                return self._password(value, location)
        elif not any(_leads_to(location, variable) for variable in _VARIABLES):
            return value
        elif len(location) >= _DEPTH:
            return self._variable(value, location)
        if not isinstance(value, dict):
            return value
        return {name: self._taken(below, (*location, name)) for name, below in value.items()}

    def _password(self, value: Json, location: tuple[str, ...]) -> Json:
        if value is None or is_secret(value) or (isinstance(value, str) and not value.strip()):
            return value
        # Any other value there, or below, is meant as a password too, and would be in the log in plain text.
        return self._reference(value if len(location) == _DEPTH else {}, location)

    def _variable(self, value: Json, location: tuple[str, ...]) -> Json:
        if len(location) > _DEPTH:
            return value
        name = ".".join(location[:-1])
        self.unmatched_marks.discard(name)
        if isinstance(value, dict) and value.keys() == {SECRET_TEXT}:
            return self._reference(value[SECRET_TEXT], location)
        return self._reference(value, location) if name in self._marked and not is_secret(value) else value

    def _reference(self, value: Json, location: tuple[str, ...]) -> Json:
        secret = Secret(self._new_id(), _text(value, ".".join((_AGENT, *_DESIRED, *location))))
        self.secrets.append(secret)
        return {SECRET: secret.id}


def _leads_to(location: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a location is above, at or below the locations of a pattern."""
    return all(segment in (_ANY, name) for name, segment in zip(location, pattern, strict=False))


def _text(value: Json, path: str) -> str:
    if not isinstance(value, str):
        raise SecretTextInvalid(path, "must be a text")
    if not value.strip():
        raise SecretTextInvalid(path, "must not be blank")
    if _half_a_pair(value):
        raise SecretTextInvalid(path, "must have whole characters, this one has half a surrogate pair")
    if (length := len(value.encode())) > STRING_BYTES_MAX:
        raise SecretTextInvalid(path, f"has at most {STRING_BYTES_MAX} bytes, this one has {length}")
    return value
