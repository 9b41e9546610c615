"""The update service's paths of updates: import, read, delete."""

import base64
import hashlib
from typing import Annotated, Any, TypeVar

from fastapi import Body, Query, Request, Response

from events import canonical
from events.canonical import JsonObject
from events.device.times import time_text
from events.update.commands import DeleteUpdate
from events.update.names import UpdateId
from events.update.state import UpdateDocument
from services.api.context.groups import Groups, UpdateInPath
from services.api.context.request import context_of, write
from services.api.device_update.filters import read_filter
from services.api.device_update.import_manifest import FILE, HANDLER, command_of
from services.api.device_update.lists import (
    PREFIX,
    Filter,
    IfNoneMatch,
    accepted,
    answer_with_etag,
    device_update_router,
    info_of,
    list_page,
    operation_done,
    selects_running,
    versioned,
)
from services.api.http.errors import NotFound

router = device_update_router("/updates")
importing = device_update_router()

_UPDATE = "/providers/{provider}/names/{name}/versions/{version}"
_IMPORT, _DELETE = "import", "delete"
_LISTED_MS = 7 * 86_400_000

T = TypeVar("T")


@router.get("")
def list_updates(
    request: Request, group_projection: Groups, search: str | None = None, filter_: Filter = None
) -> JsonObject:
    """Updates with all words of `search` in their id, description or name; the newest version first."""
    words = (search or "").replace('"', " ").lower().split()
    updates = [
        update
        for update in group_projection.updates.values()
        if all(word in f"{update.update.text} {update.description} {update.friendly_name}".lower() for word in words)
    ]
    return list_page(request, updates if _deployable(filter_) else [], _answer)


@importing.post("/updates:import", status_code=202)
def import_update(request: Request, instance: str, body: Annotated[Any, Body()]) -> Response:
    """Import an update. It exists when the request is answered."""
    command = command_of(body)
    write(request, command)
    return accepted(request, f"{PREFIX}/{instance}/updates/operations/{_operation(_IMPORT, command.update)}")


@router.get("/providers")
def list_providers(request: Request, group_projection: Groups) -> JsonObject:
    """The providers of all updates."""
    return list_page(request, sorted({update.provider for update in group_projection.updates}))


@router.get("/providers/{provider}/names")
def list_names(request: Request, group_projection: Groups, provider: str) -> JsonObject:
    """The names of a provider's updates."""
    names = sorted({update.name for update in group_projection.updates if update.provider == provider})
    return list_page(request, _nonempty(names, f"there is no update of the provider {provider[:80]!r}"))


@router.get("/providers/{provider}/names/{name}/versions")
def list_versions(
    request: Request, group_projection: Groups, provider: str, name: str, filter_: Filter = None
) -> JsonObject:
    """The versions of an update, the newest first."""
    versions = [
        update.version for update in group_projection.updates if (update.provider, update.name) == (provider, name)
    ]
    _nonempty(versions, f"there is no update {provider[:80]!r}, {name[:80]!r}")
    return list_page(request, versions if _deployable(filter_) else [])


@router.get(_UPDATE)
def get_update(group_projection: Groups, update: UpdateInPath, if_none_match: IfNoneMatch = None) -> Response:
    """One update."""
    return answer_with_etag(_answer(group_projection.update(update)), if_none_match)


@router.delete(_UPDATE, status_code=202)
def delete_update(request: Request, instance: str, update: UpdateInPath) -> Response:
    """Delete an update. It is gone when the request is answered."""
    write(request, DeleteUpdate(update))
    return accepted(request, f"{PREFIX}/{instance}/updates/operations/{_operation(_DELETE, update)}")


@router.get(f"{_UPDATE}/files")
def list_files(request: Request, group_projection: Groups, update: UpdateInPath) -> JsonObject:
    """The ids of an update's files; every update has one."""
    group_projection.update(update)
    return list_page(request, [FILE])


@router.get(f"{_UPDATE}/files/{{file}}")
def get_file(group_projection: Groups, update: UpdateInPath, file: str, if_none_match: IfNoneMatch = None) -> Response:
    """The description of an update's file."""
    document = group_projection.update(update)
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


@router.get("/operations")
def list_operations(
    request: Request, group_projection: Groups, filter_: Filter = None, top: Annotated[int | None, Query(ge=0)] = None
) -> JsonObject:
    """The imports of the last seven days, all of which are done."""
    since = context_of(request).clock() - _LISTED_MS
    newest = sorted(group_projection.updates.values(), key=lambda update: -update.imported_at)
    updates = [] if selects_running(filter_) else [update for update in newest if update.imported_at > since]
    return list_page(
        request,
        updates[:top],
        lambda update: operation_done(_operation(_IMPORT, update.update), update, at=update.imported_at),
    )


@router.get("/operations/{operation}")
def get_operation(
    request: Request, group_projection: Groups, instance: str, operation: str, if_none_match: IfNoneMatch = None
) -> Response:
    """The result of an import or of a deletion, which is done if the update exists or is gone."""
    kind, *parts = operation.split(":")
    update = UpdateId(*parts) if len(parts) == 3 else None  # noqa: PLR2004 - provider, name and version
    document = None if update is None else group_projection.updates.get(update)
    if update is None or update.problem or kind != (_DELETE if document is None else _IMPORT):
        raise NotFound(f"there is no operation {operation[:200]!r}")
    if document is None:
        return answer_with_etag(operation_done(operation, None, at=context_of(request).clock()), if_none_match)
    path = _UPDATE.format(provider=update.provider, name=update.name, version=update.version)
    location = versioned(request, f"{PREFIX}/{instance}/updates{path}")
    return answer_with_etag(
        operation_done(operation, document, at=document.imported_at, location=location), if_none_match
    )


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


def _nonempty(items: list[T], why: str) -> list[T]:
    if not items:
        raise NotFound(why)
    return items
