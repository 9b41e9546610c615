"""A twin held open while many events are applied into it: sections are read once and written once, however often they change."""

from typing import Any, Generic, TypeVar

import msgspec

from events import canonical
from events.canonical import JsonObject
from events.device.events import PropertiesReported, TwinPatched, TwinReplaced
from events.device.stamps import Stamp, restamped
from events.device.state import EMPTY, NEVER, DeviceDocument, ModuleDocument, section
from events.properties import merge_patch

Document = TypeVar("Document", DeviceDocument, ModuleDocument)
TwinEvent = TwinPatched | TwinReplaced | PropertiesReported


class OpenTwin(Generic[Document]):
    """A document, and the sections of it that were looked into; `close` answers what `events.device.state` would have evolved."""

    __slots__ = (
        "_desired_at",
        "_desired_version",
        "_document",
        "_reported_at",
        "_reported_version",
        "_sections",
        "_twin_etag",
        "_twin_version",
        "version",
        "weight",
    )

    def __init__(self, document: Document) -> None:
        self._document: Document = document
        self._sections: dict[str, JsonObject] = {}
        self._desired_at, self._desired_version = document.desired_at, document.desired_version
        self._reported_at, self._reported_version = document.reported_at, document.reported_version
        self._twin_etag, self._twin_version = document.twin_etag, document.twin_version
        self.version = document.version
        self.weight = 0
        """Bytes of JSON that were read into objects."""

    @property
    def generation(self) -> int:
        """The device's registration that it belongs to."""
        return int(self._document.generation)

    def apply(self, event: TwinEvent, *, version: int, at: int) -> None:
        """Take one more event of the twin in."""
        self.version = version
        self._twin_version += 1
        if type(event) is TwinPatched:
            self._twin_etag += 1
            if event.tags is not None:
                _merge_into(self._sections.get("tags") or self._section("tags"), event.tags)
            if event.desired is not None:
                self._restamp("desired", event.desired, self._desired_at, self._desired_version)
                _merge_into(self._section("desired"), event.desired)
                self._desired_version += 1
                self._desired_at = at
        elif type(event) is PropertiesReported:
            self._restamp("reported", event.patch, self._reported_at, self._reported_version)
            _merge_into(self._section("reported"), event.patch)
            self._reported_version += 1
            self._reported_at = at
        else:
            assert isinstance(event, TwinReplaced)
            self._twin_etag += 1
            self._sections |= {"tags": merge_patch({}, event.tags), "desired": merge_patch({}, event.desired)}
            self._sections["desired_stamps"] = {}
            self._desired_version += 1
            self._desired_at = at

    def close(self) -> Document:
        """The document as it is by now."""
        sections: dict[str, Any] = {
            name: msgspec.Raw(canonical.encode(value)) if value else EMPTY for name, value in self._sections.items()
        }
        document: Document = msgspec.structs.replace(
            self._document,
            version=self.version,
            twin_etag=self._twin_etag,
            twin_version=self._twin_version,
            desired_version=self._desired_version,
            reported_version=self._reported_version,
            desired_at=self._desired_at,
            reported_at=self._reported_at,
            **sections,
        )
        return document

    def _section(self, name: str) -> JsonObject:
        """A section to change in place: it is nobody else's."""
        found = self._sections.get(name)
        if found is None:
            raw = getattr(self._document, name)
            self.weight += len(bytes(raw))
            found = self._sections[name] = section(raw)
        return found

    def _restamp(self, name: str, patch: JsonObject, at: int, version: int) -> None:
        before, stamps = self._section(name), f"{name}_stamps"
        if not before:
            self._sections[stamps] = {}
            return
        if at == NEVER and isinstance(self._document, DeviceDocument):
            at = self._document.registered_at
        self._sections[stamps] = restamped(before, patch, self._section(stamps), Stamp(at, version))


def _merge_into(target: JsonObject, patch: JsonObject) -> None:
    """As `merge_patch`, in the target itself; nothing that can be changed is shared with the patch."""
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        elif type(value) is dict:
            current = target.get(name)
            if type(current) is dict:
                _merge_into(current, value)
            else:
                target[name] = merge_patch({}, value)
        else:
            target[name] = value
