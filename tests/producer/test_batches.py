"""A producer decides the next batch while the log appends this one: with the results of a producer that waits."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from typing_extensions import override

from events import CreateDeployment, PatchTags, RegisterDevice
from events.device.commands import UpdateDevice
from events.device.errors import DeviceNotFound
from events.device.hierarchy import own_scope
from events.device.state import DeviceDocument, decode_device
from events.log.errors import LogUnavailable
from events.log.memory import MemoryLog
from events.log.port import Chunk, PreparedAppend, Proposed, Stored
from tests.manifest.contents import content
from tests.producer.logs import Bell, producer

BATCH = 10


class LateLog(MemoryLog):
    """Appends when the producer waits for the answer, and not before; `steps` says in which order it was asked."""

    def __init__(self, **how: Any) -> None:
        self.steps: list[str] = []
        self.rivals: list[Callable[[], object]] = []
        self.failures = 0
        super().__init__(**how)

    @override
    def prepare_append(self, batch: Sequence[Proposed], **how: Any) -> PreparedAppend:
        def send() -> Callable[[], tuple[Chunk, ...]]:
            self.steps.append("begin")
            return answers

        def answers() -> tuple[Chunk, ...]:
            self.steps.append("answers")
            if self.rivals:
                self.rivals.pop(0)()
            chunks = self.append(batch, **how)
            if self.failures:
                self.failures -= 1
                raise LogUnavailable("the connection broke")
            return chunks

        return send

    @override
    def load(self, subjects: Sequence[str], *, fleet: bool = False) -> list[Stored]:
        self.steps.append("load")
        return super().load(subjects, fleet=fleet)


def registered(count: int) -> list[RegisterDevice]:
    return [RegisterDevice(f"d{number}") for number in range(count)]


def test_the_next_batch_is_loaded_before_this_one_is_sent_and_decided_before_its_answer_is_awaited() -> None:
    log = LateLog(partitions=2)

    def new_keys(count: int) -> list[dict[str, Any]]:
        log.steps.append("decide")
        return [{"type": "sas"}] * count

    producer(log, batch_commands=BATCH, new_keys=new_keys).submit(registered(3 * BATCH)).raise_if_refused()
    assert log.steps == [
        *("load", "decide"),
        *("load", "begin", "decide", "answers"),
        *("load", "begin", "decide", "answers"),
        *("begin", "answers"),
    ]


def test_a_command_on_a_subject_in_flight_is_decided_after_the_answer() -> None:
    log = LateLog(partitions=2)
    names = [f"d{number}" for number in range(25)]
    commands = [*map(RegisterDevice, names), *(PatchTags(name, {"n": n}) for n in range(3) for name in names)]
    report = producer(log, batch_commands=BATCH).submit(commands)
    assert (report.written, report.refused) == (100, ())
    for stored in log.load(names):
        assert stored.snapshot is not None
        document = decode_device(stored.snapshot)
        assert (document.version, bytes(document.tags)) == (4, b'{"n":2}')


def test_a_child_of_a_parent_in_flight_is_decided_after_the_answer() -> None:
    log = LateLog(partitions=2)
    scope = own_scope("parent", DeviceDocument(1, 1, registered_at=1000))
    children = [RegisterDevice(f"c{number}", edge=False, device_scope=scope) for number in range(BATCH)]
    report = producer(log, batch_commands=BATCH).submit([RegisterDevice("parent"), *registered(BATCH - 1), *children])
    assert (report.written, report.refused) == (2 * BATCH, ())


def test_a_conflict_of_a_batch_in_flight_is_decided_again_and_before_later_commands_on_the_subject() -> None:
    log = LateLog(partitions=1)
    producer(log).submit(registered(30)).raise_if_refused()
    log.rivals.append(lambda: producer(log).do(PatchTags("d3", {"rival": True})))
    one = producer(log, batch_commands=BATCH)
    commands = [PatchTags(f"d{number}", {"n": n}) for n in range(2) for number in range(30)]
    assert one.submit(commands).written == 60
    assert one.conflicts == 1
    (stored,) = log.load(["d3"])
    assert stored.snapshot is not None
    assert bytes(decode_device(stored.snapshot).tags) == b'{"n":1,"rival":true}'


def test_commands_in_conflict_are_appended_before_the_next_commands_are_loaded() -> None:
    """While a batch waits for a load, other authors change its subjects: a command would use up its attempts."""
    log = LateLog(partitions=1)
    producer(log).submit(registered(3 * BATCH)).raise_if_refused()
    log.rivals.append(lambda: producer(log).do(PatchTags("d3", {"rival": True})))
    log.steps.clear()
    one = producer(log, batch_commands=BATCH)
    assert one.submit([PatchTags(f"d{number}", {"n": 1}) for number in range(3 * BATCH)]).written == 3 * BATCH
    of_rival = ["load", "begin", "answers"]
    first, second, again, third = ["load"], ["load"], ["load", "begin", "answers"], ["load", "begin", "answers"]
    assert log.steps == [*first, *second, "begin", "answers", *of_rival, "begin", "answers", *again, *third]


def test_a_lost_answer_of_a_batch_in_flight_is_asked_for_again_and_written_once() -> None:
    log = LateLog(partitions=2)
    log.failures = 3
    assert producer(log, batch_commands=BATCH).submit(registered(5 * BATCH)).written == 5 * BATCH
    assert sum(log.heads().values()) == 5 * BATCH + 1


def test_what_was_read_before_an_error_of_the_input_is_written_and_wakes_the_workers() -> None:
    log, bell = LateLog(partitions=1), Bell()

    def lines() -> Iterator[RegisterDevice]:
        yield from registered(2 * BATCH)
        raise ValueError("line 21 cannot be read")

    with pytest.raises(ValueError, match="line 21"):
        producer(log, batch_commands=BATCH, waker=bell).submit(lines())
    assert (log.head(0), set().union(*bell.woken)) == (2 * BATCH, {0})


def test_the_next_commands_are_read_and_checked_before_the_answer_is_awaited() -> None:
    log = LateLog(partitions=1)

    def lines() -> Iterator[RegisterDevice]:
        for number, command in enumerate(registered(3 * BATCH)):
            if number % BATCH == 0:
                log.steps.append("read")
            yield command

    producer(log, batch_commands=BATCH).submit(lines()).raise_if_refused()
    assert log.steps[:8] == ["read", "load", "read", "load", "begin", "read", "answers", "load"]


def test_after_a_batch_that_cannot_be_written_the_next_one_is_not_sent() -> None:
    log, attempts = LateLog(partitions=1), 3
    log.failures = 1000
    with pytest.raises(LogUnavailable):
        producer(log, batch_commands=BATCH, attempts=attempts).submit(registered(3 * BATCH))
    assert (log.steps.count("begin"), log.head(0)) == (attempts, BATCH)


def test_commands_of_the_fleet_begin_when_all_before_them_is_written() -> None:
    log = LateLog(partitions=1)
    commands = [CreateDeployment(f"a{number}", content(), "*") for number in range(3 * BATCH)]
    producer(log, batch_commands=BATCH).submit([*registered(BATCH), *commands]).raise_if_refused()
    steps = [step for step, _ in itertools.groupby(log.steps)]
    assert steps == ["load", "begin", "answers"] * 4


def test_each_command_answers_with_what_the_log_has_after_it_or_with_its_error() -> None:
    log = MemoryLog(partitions=2)
    one = producer(log)
    commands = [
        RegisterDevice("a"),
        PatchTags("nobody", {"n": 1}),
        PatchTags("a", {"n": 1}),
        PatchTags("a", {"n": 1}),
        UpdateDevice("a", enabled=False),
    ]
    first, refused, patched, unchanged, last = one.submit_each(commands)
    assert isinstance(refused, DeviceNotFound)
    assert [isinstance(result, Stored) and result.head.version for result in (first, patched, unchanged, last)] == [
        *(1, 2, 2, 3)
    ]
    assert patched == unchanged
    assert [last] == log.load(["a"])
    # The time of the event, which only the append knows.
    assert isinstance(last, Stored)
    assert last.snapshot is not None
    assert decode_device(last.snapshot).status_updated_at == 1000
