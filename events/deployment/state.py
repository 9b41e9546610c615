"""The state of a deployment: the document that results from replaying its events."""

import base64
from typing import assert_never

import msgspec
from msgspec import UNSET, UnsetType

from events.canonical import JsonObject
from events.deployment.events import (
    Admission,
    AdmissionChanged,
    DeploymentCreated,
    DeploymentDeleted,
    DeploymentEvent,
    DeploymentScheduled,
    DeploymentUpdated,
    Ended,
    Kept,
    NotStarted,
    Schedule,
)
from events.manifest.document import ContentKind, is_layered, kind_of


class DeploymentDocument(msgspec.Struct, frozen=True):
    """A deployment after its events; `*_at` are milliseconds.

    `version` counts the events of all deployments that had this id, also of deleted ones. The etag is made from it, so an
    etag from before a deletion never matches the next deployment of the id.

    `scope` is a condition that must hold in addition to the target condition; it is absent without a scope.
    """

    version: int
    content: JsonObject
    layered: bool
    target_condition: str
    priority: int
    labels: dict[str, str]
    metrics: dict[str, str]
    schema_version: str
    admission: Admission | Kept
    created_at: int
    updated_at: int
    # msgspec does not write UNSET, so a document without these has no member for them.
    scope: str | UnsetType = UNSET
    schedule: Schedule | UnsetType = UNSET

    @property
    def start_at(self) -> int:
        """The scheduled start (milliseconds); 0 if it has started or has no scheduled start."""
        return self.schedule.start_at if self.schedule and isinstance(self.admission, NotStarted) else 0

    @property
    def end_at(self) -> int:
        """The scheduled end (milliseconds); 0 if it has ended or has no scheduled end."""
        return self.schedule.end_at if self.schedule and not isinstance(self.admission, Ended | Kept) else 0

    @property
    def kind(self) -> ContentKind:
        """The kind of content: for the modules of edge devices, devices' own twins, or the twins of one module."""
        return kind_of(self.content)


decode = msgspec.json.Decoder(DeploymentDocument).decode
"""Read a document from its canonical bytes."""


def evolve(
    document: DeploymentDocument | None, event: DeploymentEvent, *, version: int, at: int
) -> DeploymentDocument | None:
    """Return the deployment after one more event; `None` if it is deleted."""
    if isinstance(event, DeploymentCreated):
        # Every member of the event is a member of the document.
        members = msgspec.structs.asdict(event) | {"layered": is_layered(event.content)}
        return DeploymentDocument(version=version, created_at=at, updated_at=at, **members)
    assert document is not None
    match event:
        case DeploymentUpdated() | DeploymentScheduled():
            changes = msgspec.structs.asdict(event)
        case AdmissionChanged(admission):
            changes = {"admission": admission}
        case DeploymentDeleted():
            return None
        case _:
            assert_never(event)
    return msgspec.structs.replace(document, version=version, updated_at=at, **changes)


def etag_of(document: DeploymentDocument) -> str:
    """Return the base64 of the version in decimal, such as `MQ==` for 1 (contract/hub.md §1.3)."""
    return base64.b64encode(str(document.version).encode()).decode()
