"""The replay of a deployment's events: the document that stands as a snapshot beside the fleet's log."""

import base64

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
    """A deployment as its events made it; `*_at` are milliseconds.

    `version` counts the events of all deployments that had this id, deleted ones too: it is what an etag is made of, so that
    one that was read before a deletion never fits the next deployment of the id.

    `scope` is the condition that holds beside the target condition, whatever that becomes; left out where there is none.
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
    scope: str | UnsetType = UNSET
    schedule: Schedule | UnsetType = UNSET

    @property
    def start_at(self) -> int:
        """When it is to start (milliseconds); 0 where it has started, or is not to by itself."""
        waits = self.schedule is not UNSET and isinstance(self.admission, NotStarted)
        return self.schedule.start_at if waits and self.schedule is not UNSET else 0

    @property
    def end_at(self) -> int:
        """When it is to end (milliseconds); 0 where it has ended, or is not to by itself."""
        ended = self.schedule is UNSET or isinstance(self.admission, Ended | Kept)
        return 0 if ended or self.schedule is UNSET else self.schedule.end_at

    @property
    def kind(self) -> ContentKind:
        """What it is for: the modules of edge devices, devices' own twins, or the twins of one module."""
        return kind_of(self.content)


_decoder = msgspec.json.Decoder(DeploymentDocument)


def decode(data: bytes) -> DeploymentDocument:
    """Read a document's canonical bytes."""
    return _decoder.decode(data)


def evolve(
    document: DeploymentDocument | None, event: DeploymentEvent, *, version: int, at: int
) -> DeploymentDocument | None:
    """The deployment after one more event; `None` when it is deleted."""
    if isinstance(event, DeploymentCreated):
        return DeploymentDocument(
            version,
            event.content,
            is_layered(event.content),
            event.target_condition,
            event.priority,
            event.labels,
            event.metrics,
            event.schema_version,
            event.admission,
            created_at=at,
            updated_at=at,
            scope=event.scope,
            schedule=event.schedule,
        )
    assert document is not None
    match event:
        case DeploymentUpdated():
            return msgspec.structs.replace(
                document,
                version=version,
                target_condition=event.target_condition,
                priority=event.priority,
                labels=event.labels,
                metrics=event.metrics,
                updated_at=at,
            )
        case DeploymentScheduled(schedule):
            return msgspec.structs.replace(document, version=version, schedule=schedule, updated_at=at)
        case AdmissionChanged(admission):
            return msgspec.structs.replace(document, version=version, admission=admission, updated_at=at)
        case DeploymentDeleted():
            return None


def etag_of(document: DeploymentDocument) -> str:
    """`MQ==` of version 1: the base64 of a decimal counter (contract/hub.md §1.3)."""
    return base64.b64encode(str(document.version).encode()).decode()
