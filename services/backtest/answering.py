"""How each device answered to what it was really given: what it would have said, had it been given the same at another time."""

from typing import Any

import msgspec

from events import canonical
from events.device.facts import DeviceRegistered
from events.envelope import Envelope
from events.log.keys import FLEET
from events.log.port import Fact
from services.backtest.course import Course, Given, version_in
from services.backtest.recorded import History, code_in, is_answer, telling


class Answer(msgspec.Struct, frozen=True):
    """What a device said so long after it was given a configuration."""

    after_ms: int
    patch: dict[str, Any]


class Answers:
    """By partition, ordinal and configuration, what the device said, in order."""

    def __init__(self) -> None:
        self._of: dict[tuple[int, int, str], list[Answer]] = {}
        self._patches: dict[bytes, dict[str, Any]] = {}
        self.unmatched = 0
        """Reports about a version that the device was never given: nothing can be said of them."""

    def to(self, number: int, ordinal: int, configuration: str) -> list[Answer]:
        """What a device said to a configuration; nothing where it never had it, or was silent."""
        return self._of.get((number, ordinal, configuration), [])

    def note(self, number: int, ordinal: int, given: Given, at: int, patch: dict[str, Any]) -> None:
        """Keep what a device said."""
        # Thousands of devices say the same.
        kept = self._patches.setdefault(canonical.encode(patch), patch)
        answers = self._of.setdefault((number, ordinal, given.configuration), [])
        answers.append(Answer(max(0, at - given.at), kept))


def really(history: History) -> tuple[Course, Answers, int]:
    """What really happened, how devices answered, and the time of the last of it."""
    course, answers, last = Course(), Answers(), 0
    ordinals: list[dict[str, int]] = [{} for _ in range(history.partitions)]
    counts = [0] * history.partitions
    for one in history.all():
        last = one.at
        if one.outcome is not None:
            for _ in course.decided(one.stream, one.outcome, one.at):
                pass
            continue
        assert one.fact is not None
        if one.stream == FLEET:
            course.acted(one.fact)
        elif isinstance(one.fact.fact, DeviceRegistered):
            ordinals[one.stream][one.fact.subject] = counts[one.stream]
            counts[one.stream] += 1
        elif is_answer(one.fact):
            _heard(course, answers, one.stream, ordinals[one.stream], one.fact)
    return course, answers, last


def _heard(course: Course, answers: Answers, number: int, ordinals: dict[str, int], envelope: Envelope[Fact]) -> None:
    ordinal = ordinals.get(envelope.subject.partition("/")[0])
    patch = telling(getattr(envelope.fact, "patch", {}))
    given = None if ordinal is None else _about(course.given.get((number, ordinal), []), version_in(patch))
    if given is None or ordinal is None:
        answers.unmatched += 1
        return
    answers.note(number, ordinal, given, envelope.at, patch)
    course.answered(number, ordinal, given, code_in(patch))


def _about(given: list[Given], version: int | None) -> Given | None:
    """What a report is about: the version it names, or what the device has where it names none."""
    if version is None:
        return given[-1] if given else None
    return next((one for one in reversed(given) if one.version == version), None)
