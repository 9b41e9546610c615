"""A twin held open while many facts are folded into it: sections are read once and written once, however often they change."""

from typing import Any, Generic, TypeVar

import msgspec

from events import canonical
from events.device.facts import PropertiesReported, TwinPatched, TwinReplaced
from events.device.stamps import Stamp, restamped
from events.device.state import EMPTY, NEVER, DeviceDocument, ModuleDocument, section
from events.properties import merge_patch

Document = TypeVar("Document", DeviceDocument, ModuleDocument)
TwinFact = TwinPatched | TwinReplaced | PropertiesReported


class OpenTwin(Generic[Document]):
    """A document, and the sections of it that were looked into; `close` answers what `events.device.state` would have evolved."""

    __slots__ = ("_changes", "_document", "_sections", "version", "weight")

    def __init__(self, document: Document) -> None:
        self._document: Document = document
        self._sections: dict[str, dict[str, Any]] = {}
        self._changes: dict[str, int] = {}
        self.version = document.version
        self.weight = 0
        """Bytes of JSON that were read into objects."""

    @property
    def generation(self) -> int:
        """The device's registration that it belongs to."""
        return int(self._document.generation)

    def fold(self, fact: TwinFact, *, version: int, at: int) -> None:
        """Take one more fact of the twin in."""
        self.version = version
        self._count("twin_version")
        match fact:
            case TwinPatched(tags, desired):
                self._count("twin_etag")
                if tags is not None:
                    self._merge("tags", tags)
                if desired is not None:
                    self._restamp("desired", desired)
                    self._change("desired", merge_patch(self._section("desired"), desired), at)
            case PropertiesReported(patch):
                self._restamp("reported", patch)
                self._change("reported", merge_patch(self._section("reported"), patch), at)
            case TwinReplaced(tags, desired):
                self._count("twin_etag")
                self._sections["tags"] = merge_patch({}, tags)
                self._sections["desired_stamps"] = {}
                self._change("desired", merge_patch({}, desired), at)

    def close(self) -> Document:
        """The document as it is by now."""
        sections = {
            name: msgspec.Raw(canonical.encode(value)) if value else EMPTY for name, value in self._sections.items()
        }
        changes: dict[str, Any] = {**self._changes, **sections}
        document: Document = msgspec.structs.replace(self._document, version=self.version, **changes)
        return document

    def _count(self, name: str) -> None:
        changes = self._changes
        found = changes.get(name)
        changes[name] = (getattr(self._document, name) if found is None else found) + 1

    def _number(self, name: str) -> int:
        found = self._changes.get(name)
        return int(getattr(self._document, name)) if found is None else found

    def _section(self, name: str) -> dict[str, Any]:
        found = self._sections.get(name)
        if found is None:
            raw = getattr(self._document, name)
            self.weight += len(bytes(raw))
            found = self._sections[name] = section(raw)
        return found

    def _merge(self, name: str, patch: dict[str, Any]) -> None:
        self._sections[name] = merge_patch(self._section(name), patch)

    def _restamp(self, name: str, patch: dict[str, Any]) -> None:
        before, stamps = self._section(name), f"{name}_stamps"
        if not before:
            self._sections[stamps] = {}
            return
        at = self._number(f"{name}_at")
        if at == NEVER and isinstance(self._document, DeviceDocument):
            at = self._document.registered_at
        stamp = Stamp(at, self._number(f"{name}_version"))
        self._sections[stamps] = restamped(before, patch, self._section(stamps), stamp)

    def _change(self, name: str, value: dict[str, Any], at: int) -> None:
        self._sections[name] = value
        self._count(f"{name}_version")
        self._changes[f"{name}_at"] = at
