"""From a document that differs to the event that it differs by: the last one that set what stands there."""

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
    """The same, with the event that set the place in a document which differs; it reads the stream once more where one does."""
    concerned = {one.location: one for one in differences if one.kind in {"twin", "document"}}
    if not concerned:
        return tuple(differences)
    tracer = _Tracer(stream, {location: (location.partition(" ")[2], one.path) for location, one in concerned.items()})
    events = EventsAhead(log, stream, skips=skips, seen=tracer.see)
    while events.position < upto and events.read_on():
        for _ in events.runs(events.position):
            pass
    return tuple(
        msgspec.structs.replace(one, first_event=f"{name(stream)}:{tracer.last[one.location]}")
        if one.location in tracer.last
        else one
        for one in differences
    )


class _Tracer:
    def __init__(self, stream: int, locations: Mapping[str, tuple[str, str]]) -> None:
        self._documents = documents_of(stream)
        self._locations = locations
        subjects = {subject for subject, _ in locations.values()}
        # A module's document goes by its device's registrations.
        self._subjects = subjects | {device_of(subject) for subject in subjects}
        self._values: dict[str, Any] = {}
        self.last: dict[str, int] = {}

    def see(self, events: Sequence[Envelope[Any]]) -> None:
        for envelope in events:
            if envelope.subject in self._subjects:
                self._documents.apply(envelope)
                self._look(envelope.position)

    def _look(self, position: int) -> None:
        for location, (subject, path) in self._locations.items():
            document = self._documents.document(subject)
            value = _NOTHING if document is None else _at(msgspec.json.decode(document), path)
            if value != self._values.get(location, _NOTHING):
                self._values[location] = value
                self.last[location] = position


def _at(value: Any, path: str) -> Any:
    """What stands at a path of `differing`, or at as much of it as there is."""
    for part in path.replace("[", ".[").split(".")[1:]:
        if part.startswith("[") and isinstance(value, list):
            number = int(part[1:-1])
            value = value[number] if number < len(value) else _NOTHING
        elif isinstance(value, dict):
            value = value.get(part, _NOTHING)
    return value
