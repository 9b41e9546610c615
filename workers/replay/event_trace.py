"""Finds the event that caused a difference in a document: the last one that set the differing value."""

from collections.abc import Sequence
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
) -> list[ReplayDifference]:
    """The differences, each in a document with the last event that set the differing value as `first_event`.

    Reads the stream up to position `upto` once more if a document differs.
    """
    locations = {
        difference.location: (difference.location.partition(" ")[2], difference.path)
        for difference in differences
        if difference.kind in {"twin", "document"}
    }
    subjects = {subject for subject, _ in locations.values()}
    # A module's document begins anew when its device is registered again (decisions/0010), so devices are followed too.
    subjects |= {device_of(subject) for subject in subjects}
    documents, values, last = documents_of(stream), dict[str, Any](), dict[str, int]()

    def see(batch: Sequence[Envelope[Any]]) -> None:
        for envelope in batch:
            if envelope.subject not in subjects:
                continue
            documents.apply(envelope)
            for location, (subject, path) in locations.items():
                document = documents.document(subject)
                value = _NOTHING if document is None else _at(msgspec.json.decode(document), path)
                if value != values.get(location, _NOTHING):
                    values[location], last[location] = value, envelope.position

    if locations:
        events = EventsAhead(log, stream, skips=skips, seen=see)
        while events.position < upto and events.read_on():
            for _ in events.runs(events.position):
                pass
    return [
        msgspec.structs.replace(difference, first_event=f"{name(stream)}:{last[difference.location]}")
        if difference.location in last
        else difference
        for difference in differences
    ]


def _at(value: Any, path: str) -> Any:
    """The value at a path of `first_difference`, or at the longest part of it that exists."""
    for part in path.replace("[", ".[").split(".")[1:]:
        if part.startswith("[") and isinstance(value, list):
            number = int(part[1:-1])
            value = value[number] if number < len(value) else _NOTHING
        elif isinstance(value, dict):
            value = value.get(part, _NOTHING)
    return value
