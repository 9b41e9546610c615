"""Finds the event that caused a difference in a document: the last one that set the differing value."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from events.envelope import Envelope
from events.log.documents import documents_of
from events.log.events_ahead import EventsAhead, Skips
from events.log.keys import device_of, name
from events.log.port import Log
from workers.replay.report import ReplayDifference

_NOTHING = object()


def traced(
    log: Log, stream: int, differences: Sequence[ReplayDifference], *, skips: Skips, upto: int
) -> tuple[ReplayDifference, ...]:
    """The differences, each in a document with the last event that set the differing value as `first_event`.

    Reads the stream up to position `upto` once more if a document differs.
    """
    concerned = {
        difference.location: difference for difference in differences if difference.kind in {"twin", "document"}
    }
    if not concerned:
        return tuple(differences)
    tracer = _Tracer(
        stream, {location: (location.partition(" ")[2], difference.path) for location, difference in concerned.items()}
    )
    events = EventsAhead(log, stream, skips=skips, seen=tracer.see)
    while events.position < upto and events.read_on():
        for _ in events.runs(events.position):
            pass
    return tuple(
        msgspec.structs.replace(difference, first_event=f"{name(stream)}:{tracer.last[difference.location]}")
        if difference.location in tracer.last
        else difference
        for difference in differences
    )


class _Tracer:
    def __init__(self, stream: int, locations: Mapping[str, tuple[str, str]]) -> None:
        self._documents = documents_of(stream)
        self._locations = locations
        subjects = {subject for subject, _ in locations.values()}
        # A module's document begins anew when its device is registered again (decisions/0010), so devices are followed too.
        self._subjects = subjects | {device_of(subject) for subject in subjects}
        self._values: dict[str, Any] = {}
        self.last: dict[str, int] = {}

    def see(self, events: Sequence[Envelope[Any]]) -> None:
        for envelope in events:
            if envelope.subject in self._subjects:
                self._documents.apply(envelope)
                self._note_changes(envelope.position)

    def _note_changes(self, position: int) -> None:
        for location, (subject, path) in self._locations.items():
            document = self._documents.document(subject)
            value = _NOTHING if document is None else _at(msgspec.json.decode(document), path)
            if value != self._values.get(location, _NOTHING):
                self._values[location] = value
                self.last[location] = position


def _at(value: Any, path: str) -> Any:
    """The value at a path of `first_difference`, or at the longest part of it that exists."""
    for part in path.replace("[", ".[").split(".")[1:]:
        if part.startswith("[") and isinstance(value, list):
            number = int(part[1:-1])
            value = value[number] if number < len(value) else _NOTHING
        elif isinstance(value, dict):
            value = value.get(part, _NOTHING)
    return value
