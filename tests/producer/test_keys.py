"""A request with a key is done once: what is in the log under the id of its command is not written again."""

from typing import Any

import pytest

from events import CreateDeployment, PatchTags, PatchTwin, RegisterDevice, ReportProperties
from events.deployment.commands import UpdateDeployment
from events.device.errors import DeviceExists, DeviceNotFound
from events.log.errors import LogUnavailable
from events.log.memory import MemoryLog
from events.producer.errors import Together
from events.producer.keys import CommandKey
from tests.manifest.contents import content
from tests.producer.logs import FlakyLog, RacingLog, all_events, producer

KEY = CommandKey("key")
BATCH: list[Any] = [
    RegisterDevice("a"),
    ReportProperties("a", {"n": 1}),
    ReportProperties("a", {"n": 1}),
    PatchTags("nobody", {"x": 1}),
    CreateDeployment("d", content(), "*"),
    Together((RegisterDevice("b"), PatchTwin("b", tags={"y": 1}))),
]


def test_a_batch_that_is_sent_again_is_written_once_and_reported_alike() -> None:
    log = MemoryLog(partitions=2)
    first = producer(log, key=KEY).submit(BATCH)
    events = all_events(log)
    again = producer(log, key=KEY).submit(BATCH)
    assert (first.written, again.written) == (6, 6)
    assert [one.index for one in first.refused] == [one.index for one in again.refused] == [3]
    assert isinstance(again.refused[0].error, DeviceNotFound)
    assert all_events(log) == events


def test_a_batch_of_which_a_part_was_written_is_completed() -> None:
    log = MemoryLog(partitions=2)
    producer(log, key=KEY).submit(BATCH[:2])
    assert producer(log, key=KEY).submit(BATCH).written == 6
    assert len(all_events(log)) == 6


def test_another_key_is_another_request() -> None:
    log = MemoryLog(partitions=1)
    producer(log, key=KEY).submit(BATCH[:2])
    report = producer(log, key=CommandKey("other")).submit(BATCH[:2])
    assert report.written == 1
    assert isinstance(report.refused[0].error, DeviceExists)


def test_a_command_whose_answer_was_lost_is_written_once_by_a_producer_that_knows_of_nothing() -> None:
    log = FlakyLog(partitions=1)
    log.failures = 1
    with pytest.raises(LogUnavailable):
        producer(log, key=KEY, attempts=1).do(CreateDeployment("d", content(), "*"))
    producer(log, key=KEY, attempts=1).do(CreateDeployment("d", content(), "*"))
    assert len(all_events(log)) == 1


def test_two_who_send_the_same_at_once_write_it_once() -> None:
    log = RacingLog(partitions=1)
    producer(log).do(RegisterDevice("a"))
    report = ReportProperties("a", {"n": 1})
    log.rivals.append(lambda: producer(log, key=KEY).submit([report, report]))
    assert producer(log, key=KEY).submit([report, report]).written == 2
    assert len(all_events(log)) == 3


def test_commands_that_stand_together_are_written_once() -> None:
    log = MemoryLog(partitions=1)
    for _ in range(2):
        producer(log, key=KEY).do(Together((CreateDeployment("d", content(), "*"), UpdateDeployment("d", priority=2))))
    assert len(all_events(log)) == 2


def test_of_an_answered_request_nothing_is_written_again_although_a_command_changed_nothing_then() -> None:
    log = MemoryLog(partitions=1)
    producer(log).submit([RegisterDevice("a"), PatchTags("a", {"x": 1})])
    same = PatchTags("a", {"x": 1})
    assert producer(log, key=KEY).submit([same]).written == 0
    producer(log).do(PatchTags("a", {"x": 2}))
    events = all_events(log)
    producer(log, key=CommandKey("key", is_answered=True)).do(same)
    assert all_events(log) == events
