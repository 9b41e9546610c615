"""The import of an update: an import manifest and its file, both in `data:` URLs of the request."""

import base64
import binascii
import hashlib
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from events.canonical import Json, JsonObject
from events.manifest.document import content_of
from events.update.commands import ImportUpdate
from events.update.names import UpdateId
from services.api.http.errors import BodyInvalid

HANDLER = "twinfold/manifest:1"
"""The handler of an import manifest's only step: its file is the manifest of an edge deployment, or a layer."""

FILE = "content"
"""The id of an update's only file."""

_DATA = "data:"


def command_of(body: Json) -> ImportUpdate:
    """The command of an import request.

    Raises:
        BodyInvalid: names the element that is missing or invalid.
    """
    match body:
        case [{"importManifest": {"url": str()} as source, "files": [{"url": str(file_url)}]} as entry]:
            manifest = _json(_bytes(source, "importManifest"), "importManifest")
        case _:
            raise BodyInvalid(
                "one import requires importManifest.url and one file with its url; child updates are not supported"
            )
    match manifest:
        case {"updateId": {"provider": str(provider), "name": str(name), "version": str(version)}}:
            update = UpdateId(provider, name, version)
        case _:
            raise BodyInvalid("importManifest: updateId requires provider, name and version")
    match manifest:
        case {"instructions": {"steps": [{"handler": str(handler)}]}, "files": [dict(file)]} if handler == HANDLER:
            content = _json(_bytes({**file, "url": file_url}, "files[0]"), "files[0]")
        case _:
            raise BodyInvalid(f"importManifest: requires one step with the handler {HANDLER}, and one file")
    return ImportUpdate(
        update,
        content_of(content),
        _compatibility(manifest.get("compatibility", [])),
        _text(manifest.get("description", ""), "importManifest.description"),
        _text(entry.get("friendlyName", ""), "friendlyName"),
    )


def _compatibility(value: Json) -> tuple[dict[str, str], ...]:
    try:
        return msgspec.convert(value, tuple[dict[str, str], ...])
    except msgspec.ValidationError as error:
        raise BodyInvalid(
            f"importManifest.compatibility must be a list of properties and their values: {error}"
        ) from error


def _text(value: Json, location: str) -> str:
    if value is not None and not isinstance(value, str):
        raise BodyInvalid(f"{location} must be a text")
    return value or ""


def _bytes(source: JsonObject, location: str) -> bytes:
    """The content of a `data:` URL, checked against its size and hash."""
    # Nothing is fetched: a server that follows URLs reaches hosts that its callers do not (docs/guides/updates.md).
    url: str = source["url"]
    head, comma, payload = url.removeprefix(_DATA).partition(",")
    if not url.startswith(_DATA) or not comma:
        raise BodyInvalid(
            f"{location}: the url has the content, as in data:application/json;base64,...; nothing is fetched"
        )
    try:
        data = base64.b64decode(payload, validate=True) if head.endswith(";base64") else unquote_to_bytes(payload)
    except (binascii.Error, ValueError) as error:
        raise BodyInvalid(f"{location}: the url is no base64") from error
    size, hashes = source.get("sizeInBytes", len(data)), source.get("hashes") or {}
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    if size != len(data):
        raise BodyInvalid(f"{location}: it has {len(data)} bytes, not {str(size)[:20]}")
    if not isinstance(hashes, dict) or hashes.get("sha256", digest) != digest:
        raise BodyInvalid(f"{location}: its SHA-256 is {digest}, in base64, and not what hashes.sha256 says")
    return data


def _json(data: bytes, location: str) -> Any:
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BodyInvalid(f"{location} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise BodyInvalid(f"{location} must be a JSON object")
    return value
