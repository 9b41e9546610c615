"""The update service's paths of updates (import, read, delete) and of operations, which are done when they are answered."""

import base64
import binascii
import hashlib
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes, urlencode

import msgspec
from fastapi import Body, Header, Query, Request, Response

from events import canonical
from events.canonical import Json, JsonObject
from events.device.times import time_text
from events.manifest.document import content_of
from events.update.commands import DeleteUpdate, ImportUpdate
from events.update.names import UpdateId
from events.update.state import UpdateDocument
from services.api.context.groups import Groups, UpdateInPath
from services.api.context.request import context_of, write
from services.api.device_update.lists import (
    PREFIX,
    Filter,
    device_update_router,
    info_of,
    list_page,
    present,
    read_filter,
    read_update_id,
)
from services.api.http.errors import BodyInvalid, NotFound
from services.api.http.json_answer import JsonAnswer

router = device_update_router()

_UPDATE = "/updates/providers/{provider}/names/{name}/versions/{version}"
_IMPORT, _DELETE, _IMPORT_DEVICES = "import", "delete", "import-devices"
_RUNNING = "status eq 'NotStarted' or status eq 'Running'"
_LISTED_MS = 7 * 86_400_000
_DATA = "data:"
HANDLER = "twinfold/manifest:1"
"""The handler of an import manifest's only step: its file is the manifest of an edge deployment, or a layer."""
FILE = "content"
"""The id of an update's only file."""


IfNoneMatch = Annotated[str | None, Header()]


@router.post("/updates:import", status_code=202)
def import_update(request: Request, instance: str, body: Annotated[Any, Body()]) -> Response:
    """Import an update. It exists when the request is answered."""
    command = command_of(body)
    write(request, command)
    return accepted(request, f"{PREFIX}/{instance}/updates/operations/{_operation(_IMPORT, command.update)}")


@router.get("/updates")
def list_updates(request: Request, groups: Groups, search: str | None = None, filter_: Filter = None) -> JsonObject:
    """Updates with all words of `search` in their id, description or name; the newest version first."""
    words = (search or "").replace('"', " ").lower().split()
    updates = [
        update
        for update in groups.updates.values()
        if all(word in f"{update.update.text} {update.description} {update.friendly_name}".lower() for word in words)
    ]
    return list_page(request, updates if _deployable(filter_) else [], _answer)


@router.get("/updates/providers")
def list_providers(request: Request, groups: Groups) -> JsonObject:
    """The providers of all updates."""
    return list_page(request, sorted({update.provider for update in groups.updates}))


@router.get("/updates/providers/{provider}/names")
def list_names(request: Request, groups: Groups, provider: str) -> JsonObject:
    """The names of a provider's updates."""
    names = sorted({update.name for update in groups.updates if update.provider == provider})
    if not names:
        raise NotFound(f"there is no update of the provider {provider[:80]!r}")
    return list_page(request, names)


@router.get("/updates/providers/{provider}/names/{name}/versions")
def list_versions(request: Request, groups: Groups, provider: str, name: str, filter_: Filter = None) -> JsonObject:
    """The versions of an update, the newest first."""
    versions = [update.version for update in groups.updates if (update.provider, update.name) == (provider, name)]
    if not versions:
        raise NotFound(f"there is no update {provider[:80]!r}, {name[:80]!r}")
    return list_page(request, versions if _deployable(filter_) else [])


@router.get(_UPDATE)
def get_update(groups: Groups, update: UpdateInPath, if_none_match: IfNoneMatch = None) -> Response:
    """One update."""
    return answer_with_etag(_answer(groups.update(update)), if_none_match)


@router.delete(_UPDATE, status_code=202)
def delete_update(request: Request, instance: str, update: UpdateInPath) -> Response:
    """Delete an update. It is gone when the request is answered."""
    write(request, DeleteUpdate(update))
    return accepted(request, f"{PREFIX}/{instance}/updates/operations/{_operation(_DELETE, update)}")


@router.get(f"{_UPDATE}/files")
def list_files(request: Request, groups: Groups, update: UpdateInPath) -> JsonObject:
    """The ids of an update's files; every update has one."""
    groups.update(update)
    return list_page(request, [FILE])


@router.get(f"{_UPDATE}/files/{{file}}")
def get_file(groups: Groups, update: UpdateInPath, file: str, if_none_match: IfNoneMatch = None) -> Response:
    """The description of an update's file."""
    document = groups.update(update)
    if file != FILE:
        raise NotFound(f"an update has one file, {FILE!r}")
    # As it is stored, with references in place of secrets: size and hash must not depend on them.
    data = canonical.encode(document.content)
    described = {
        "fileId": FILE,
        "fileName": "manifest.json",
        "sizeInBytes": len(data),
        "hashes": {"sha256": base64.b64encode(hashlib.sha256(data).digest()).decode()},
        "mimeType": "application/json",
        "etag": _etag(document),
    }
    return answer_with_etag(described, if_none_match)


@router.get("/updates/operations")
def list_operations(
    request: Request, groups: Groups, filter_: Filter = None, top: Annotated[int | None, Query(ge=0)] = None
) -> JsonObject:
    """The imports of the last seven days, all of which are done."""
    since = context_of(request).clock() - _LISTED_MS
    newest = sorted(groups.updates.values(), key=lambda update: -update.imported_at)
    updates = [] if selects_running(filter_) else [update for update in newest if update.imported_at > since]

    def shown(update: UpdateDocument) -> JsonObject:
        return operation_done(_operation(_IMPORT, update.update), update, at=update.imported_at)

    return list_page(request, updates[:top], shown)


@router.get("/updates/operations/{operation}")
def get_operation(
    request: Request, groups: Groups, instance: str, operation: str, if_none_match: IfNoneMatch = None
) -> Response:
    """The result of an import or of a deletion, which is done if the update exists or is gone."""
    kind, *parts = operation.split(":")
    update = UpdateId(*parts) if len(parts) == 3 else None  # noqa: PLR2004 - provider, name and version
    document = None if update is None else groups.updates.get(update)
    if update is None or update.problem or kind != (_DELETE if document is None else _IMPORT):
        raise NotFound(f"there is no operation {operation[:200]!r}")
    at, location = context_of(request).clock(), ""
    if document is not None:
        path = _UPDATE.format(provider=update.provider, name=update.name, version=update.version)
        at, location = document.imported_at, versioned(request, f"{PREFIX}/{instance}{path}")
    return answer_with_etag(operation_done(operation, document, at=at, location=location), if_none_match)


@router.post("/management/devices:import", status_code=202)
def import_devices(request: Request, instance: str) -> Response:
    """Answer an import of devices, which has nothing to do: registered devices are known."""
    return accepted(request, f"{PREFIX}/{instance}/management/operations/{_IMPORT_DEVICES}")


@router.get("/management/operations")
def list_device_operations(request: Request, filter_: Filter = None) -> JsonObject:
    """An empty list, as no operation is running: each is done before it is answered."""
    selects_running(filter_)
    return list_page(request, [])


@router.get("/management/operations/{operation}")
def get_device_operation(request: Request, operation: str, if_none_match: IfNoneMatch = None) -> Response:
    """The result of an import of devices, which is always done."""
    if operation != _IMPORT_DEVICES:
        raise NotFound(f"there is no operation {operation[:80]!r}")
    return answer_with_etag(operation_done(operation, None, at=context_of(request).clock()), if_none_match)


def _answer(document: UpdateDocument) -> JsonObject:
    return {
        **info_of(document),
        "isDeployable": True,
        "compatibility": list(document.compatibility),
        "instructions": {"steps": [{"type": "Inline", "handler": HANDLER, "files": [FILE]}]},
        "referencedBy": [],
        "manifestVersion": "5.0",
        "importedDateTime": time_text(document.imported_at),
        "createdDateTime": time_text(document.imported_at),
        "etag": _etag(document),
    }


def _etag(document: UpdateDocument) -> str:
    # Updates are immutable: the etag changes only if one is deleted and another imported under its id.
    return f'"{document.version}"'


def _operation(kind: str, update: UpdateId) -> str:
    return f"{kind}:{update.provider}:{update.name}:{update.version}"


def _deployable(filter_: str | None) -> bool:
    """Whether a filter includes deployable updates, which all updates are."""
    return read_filter(filter_, ("isDeployable",)).get("isDeployable", True) is True


def accepted(request: Request, location: str) -> Response:
    """The answer to a request that is done, with the operation under which clients poll its result."""
    return Response(status_code=202, headers={"Operation-Location": versioned(request, location)})


def versioned(request: Request, location: str) -> str:
    """A path with the client's `api-version`."""
    return f"{location}?{urlencode({'api-version': request.query_params['api-version']})}"


def answer_with_etag(body: JsonObject, if_none_match: str | None) -> Response:
    """An answer with its etag, or 304 if the client has it already."""
    headers = {"ETag": body["etag"]}
    if if_none_match is not None and if_none_match.strip('"') == body["etag"].strip('"'):
        return Response(status_code=304, headers=headers)
    return JsonAnswer(body, headers=headers)


def selects_running(text: str | None) -> bool:
    """Whether a filter selects operations that are not done yet, the only one that is supported.

    Raises:
        BodyInvalid: it is another filter.
    """
    if text is not None and text.strip() != _RUNNING:
        raise BodyInvalid(f"this filter is not supported: {text[:200]!r}; supported is {_RUNNING}")
    return text is not None


def operation_done(operation_id: str, document: UpdateDocument | None, *, at: int, location: str = "") -> JsonObject:
    """An operation that is done. No operation runs longer than its request."""
    return present(
        operationId=operation_id,
        status="Succeeded",
        createdDateTime=time_text(at),
        lastActionDateTime=time_text(at),
        etag='"1"',  # An operation does not change any more.
        resourceLocation=location or None,
        update=None if document is None else info_of(document),
    )


# -- the import manifest and its file, both in `data:` URLs of the request


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
    update = read_update_id(manifest, "importManifest: updateId")
    match manifest:
        case {"instructions": {"steps": [{"handler": str(handler)}]}, "files": [dict(file)]} if handler == HANDLER:
            content = _json(_bytes({**file, "url": file_url}, "files[0]"), "files[0]")
        case _:
            raise BodyInvalid(f"importManifest: requires one step with the handler {HANDLER}, and one file")
    try:
        compatibility = msgspec.convert(manifest.get("compatibility", []), tuple[dict[str, str], ...])
    except msgspec.ValidationError as error:
        raise BodyInvalid(
            f"importManifest.compatibility must be a list of properties and their values: {error}"
        ) from error
    description, friendly_name = manifest.get("description"), entry.get("friendlyName")
    for text, location in ((description, "importManifest.description"), (friendly_name, "friendlyName")):
        if text is not None and not isinstance(text, str):
            raise BodyInvalid(f"{location} must be a text")
    return ImportUpdate(update, content_of(content), compatibility, description or "", friendly_name or "")


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
