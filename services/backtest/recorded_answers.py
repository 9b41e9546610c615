"""How each device answered to what it was really given: what it would have said, had it been given the same at another time."""

from typing import Any

import msgspec

from events import canonical
from events.device.events import DesiredDelivered, DeviceRegistered
from events.envelope import Envelope
from events.log.keys import FLEET
from events.log.port import Event
from services.backtest.course import Course, Given, version_in
from services.backtest.recorded import History, code_in, is_answer, telling


class RecordedAnswer(msgspec.Struct, frozen=True):
    """What a device said so long after it was given a version of a module's section; nothing (`patch`) but that it has it."""

    after_ms: int
    patch: dict[str, Any] | None


class RecordedAnswers:
    """By partition and ordinal, module and version of its section, what the device said, in order."""

    def __init__(self) -> None:
        self._of: dict[tuple[int, int, str, int], list[RecordedAnswer]] = {}
        self._patches: dict[bytes, dict[str, Any]] = {}
        self.unmatched = 0
        """Reports about a version that the device was never given: nothing can be said of them."""

    def to(self, course: Course, location: tuple[int, int], configuration: str, module_id: str) -> list[RecordedAnswer]:
        """What a device said of a module's section in a configuration; nothing where it never had that, or was silent.

        `course` is what really happened.
        """
        versions = course.versions(location, configuration, module_id)
        return [answer for version in versions for answer in self._of.get((*location, module_id, version), [])]

    def note(
        self, location: tuple[int, int], grant: Given, at: int, module_id: str, patch: dict[str, Any] | None
    ) -> None:
        """Keep what a device said."""
        # Thousands of devices say the same.
        shared_patch = None if patch is None else self._patches.setdefault(canonical.encode(patch), patch)
        answers = self._of.setdefault((*location, module_id, grant.versions[module_id]), [])
        answers.append(RecordedAnswer(max(0, at - grant.at), shared_patch))


def really(history: History) -> tuple[Course, RecordedAnswers, int]:
    """What really happened, how devices answered, and the time of the last of it."""
    course, answers, last = Course(), RecordedAnswers(), 0
    ordinals: list[dict[str, int]] = [{} for _ in range(history.partitions)]
    counts = [0] * history.partitions
    for entry in history.all():
        last = entry.at
        if entry.assignment_change is not None:
            for _ in course.decided(entry.stream, entry.assignment_change, entry.at):
                pass
            continue
        assert entry.event is not None
        if entry.stream == FLEET:
            course.acted(entry.event)
        elif isinstance(entry.event.event, DeviceRegistered):
            ordinals[entry.stream][entry.event.subject] = counts[entry.stream]
            counts[entry.stream] += 1
        elif is_answer(entry.event):
            _heard(course, answers, entry.stream, ordinals[entry.stream], entry.event)
    return course, answers, last


def _heard(
    course: Course, answers: RecordedAnswers, number: int, ordinals: dict[str, int], envelope: Envelope[Event]
) -> None:
    device_id, _, module_id = envelope.subject.partition("/")
    ordinal = ordinals.get(device_id)
    if ordinal is None:
        answers.unmatched += 1
        return
    location, event = (number, ordinal), envelope.event
    every = course.given.get(location, [])
    if isinstance(event, DesiredDelivered):
        for name, version in event.versions.items():
            if grant := _about(every, name, version):
                answers.note(location, grant, envelope.at, name, None)
        return
    patch = telling(getattr(event, "patch", {}))
    grant = _about(every, module_id, version_in(patch))
    if grant is None:
        answers.unmatched += 1
        return
    answers.note(location, grant, envelope.at, module_id, patch)
    course.answered(number, ordinal, grant, code_in(patch))


def _about(grants: list[Given], module_id: str, version: int | None) -> Given | None:
    """What an answer is about: what first gave the version that it names, or what the device has where it names none."""
    if version is None:
        return grants[-1] if grants and module_id in grants[-1].versions else None
    return next((grant for grant in grants if grant.versions.get(module_id) == version), None)
