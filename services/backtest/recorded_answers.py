"""How each device really answered to what it was given, to be sent again when a backtest gives it the same at another time."""

from typing import Any

import msgspec

from events import canonical
from events.device.events import DesiredDelivered, DeviceRegistered
from events.envelope import Envelope
from events.log.keys import FLEET
from events.log.port import Event
from services.backtest.history import History, code_in, health_part, is_answer
from services.backtest.timeline import Grant, Timeline, version_in


class RecordedAnswer(msgspec.Struct, frozen=True):
    """A device's answer, `after_ms` after it was given a version of a module's section; without `patch` only that it received it."""

    after_ms: int
    patch: dict[str, Any] | None


class RecordedAnswers:
    """The answers by partition, ordinal, module and version of its section, in order."""

    def __init__(self) -> None:
        self._of: dict[tuple[int, int, str, int], list[RecordedAnswer]] = {}
        self._patches: dict[bytes, dict[str, Any]] = {}
        self.unmatched = 0
        """Number of reports about a version that the device was never given; the backtest cannot use them."""

    def to(
        self, timeline: Timeline, device: tuple[int, int], configuration: str, module_id: str
    ) -> list[RecordedAnswer]:
        """The answers of a device to a module's section of a configuration; empty if it never had that or never answered.

        `timeline` is what really happened.
        """
        versions = timeline.versions(device, configuration, module_id)
        return [answer for version in versions for answer in self._of.get((*device, module_id, version), [])]

    def note(
        self, device: tuple[int, int], grant: Grant, at: int, module_id: str, patch: dict[str, Any] | None
    ) -> None:
        """Store a device's answer."""
        # Thousands of devices send equal patches; one copy of each keeps an answer at a few hundred bytes (decision 0030).
        shared_patch = None if patch is None else self._patches.setdefault(canonical.encode(patch), patch)
        answers = self._of.setdefault((*device, module_id, grant.versions[module_id]), [])
        # The clocks of a worker and the API can differ, so an answer can be dated before its grant.
        answers.append(RecordedAnswer(max(0, at - grant.at), shared_patch))


def read_history(history: History) -> tuple[Timeline, RecordedAnswers, int]:
    """Read the history once: what really happened, how devices answered, and the time of the last entry (milliseconds)."""
    timeline, answers, last = Timeline(), RecordedAnswers(), 0
    ordinals: list[dict[str, int]] = [{} for _ in range(history.partitions)]
    counts = [0] * history.partitions
    for entry in history.all():
        last = entry.at
        if entry.assignment_change is not None:
            for _ in timeline.decided(entry.stream, entry.assignment_change, entry.at):
                pass
            continue
        assert entry.event is not None
        if entry.stream == FLEET:
            timeline.acted(entry.event)
        elif isinstance(entry.event.event, DeviceRegistered):
            ordinals[entry.stream][entry.event.subject] = counts[entry.stream]
            counts[entry.stream] += 1
        elif is_answer(entry.event):
            _heard(timeline, answers, entry.stream, ordinals[entry.stream], entry.event)
    return timeline, answers, last


def _heard(
    timeline: Timeline, answers: RecordedAnswers, number: int, ordinals: dict[str, int], envelope: Envelope[Event]
) -> None:
    device_id, _, module_id = envelope.subject.partition("/")
    ordinal = ordinals.get(device_id)
    if ordinal is None:
        answers.unmatched += 1
        return
    device, event = (number, ordinal), envelope.event
    every = timeline.grants.get(device, [])
    if isinstance(event, DesiredDelivered):
        for name, version in event.versions.items():
            if grant := _about(every, name, version):
                answers.note(device, grant, envelope.at, name, None)
        return
    patch = health_part(getattr(event, "patch", {}))
    grant = _about(every, module_id, version_in(patch))
    if grant is None:
        answers.unmatched += 1
        return
    answers.note(device, grant, envelope.at, module_id, patch)
    timeline.answered(number, ordinal, grant, code_in(patch))


def _about(grants: list[Grant], module_id: str, version: int | None) -> Grant | None:
    """The grant that an answer is about: the first with the version that it names, else the device's last one."""
    if version is None:
        return grants[-1] if grants and module_id in grants[-1].versions else None
    return next((grant for grant in grants if grant.versions.get(module_id) == version), None)
