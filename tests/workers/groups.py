"""Commands in groups, the same for every run; `python -m tests.workers.groups URL QUEUE GROUP` writes one."""

import itertools
import sys
from collections.abc import Sequence
from typing import Any

from redis import Redis
from typing_extensions import override

from events import DeleteDeployment, PatchTags, Producer, ReportProperties, RetireDevice, UpdateDeployment
from events.envelope import Principal
from events.log.log_factory import open_log
from events.log.memory import MemoryLog
from events.log.port import Chunk, Conflicted, Proposed
from events.log.wake import Waker
from tests.workers.system import base, deploy, join, layer

AT = 1_000_000
ADA = Principal.parse("user:ada")
DEVICES = [f"d{number:02d}" for number in range(24)]


def group(number: int) -> list[Any]:
    """The commands of one group."""
    match number:
        case 0:
            joining = [join(name, environment="prod" if index % 2 else "test") for index, name in enumerate(DEVICES)]
            return [
                *itertools.chain.from_iterable(joining),
                deploy("base", base("a"), "tags.environment = 'prod'", priority=1),
                deploy("extra", layer("x", v=1), "tags.camera = true", priority=5),
            ]
        case 1:
            return [
                *(PatchTags(name, {"camera": True, "environment": "prod"}) for name in DEVICES[:12]),
                *(ReportProperties(name, {"model": name[-1]}) for name in DEVICES),
                deploy("next", base("b"), "properties.reported.model = '3' OR tags.camera = true", priority=2),
            ]
        case 2:
            return [
                DeleteDeployment("extra"),
                UpdateDeployment("base", target_condition="tags.environment = 'prod' AND NOT tags.camera = true"),
                *(PatchTags(name, {"environment": None, "camera": None}) for name in DEVICES[::4]),
                RetireDevice(DEVICES[5]),
            ]
        case _:
            raise AssertionError(number)


GROUPS = 3


class Recording(MemoryLog):
    """Remembers the batches that were appended to it."""

    def __init__(self, *, partitions: int) -> None:
        self.batches: list[Sequence[Proposed]] = []
        super().__init__(partitions=partitions)

    @override
    def append(self, batch: Sequence[Proposed], **how: Any) -> tuple[Chunk, ...]:
        self.batches.append(batch)
        return super().append(batch, **how)


def batches(number: int, *, partitions: int) -> list[Sequence[Proposed]]:
    """What a producer decides for a group when all before it are in the log."""
    log = Recording(partitions=partitions)
    producer = Producer(log, by=ADA, clock=lambda: AT)
    for one in range(number + 1):
        log.batches.clear()
        producer.submit(group(one)).raise_if_refused()
    return log.batches


def write(url: str, queue_url: str, number: int) -> None:
    """Send a group's batches, the same with the same command ids whenever and however often they are sent."""
    log = open_log(url)
    waker = Waker(Redis.from_url(queue_url))
    for index, batch in enumerate(batches(number, partitions=log.partitions)):
        chunks = log.append(batch, command_id=f"group{number}-{index}", by=ADA, at=AT)
        assert not any(isinstance(chunk, Conflicted) for chunk in chunks)
        waker.wake({chunk.stream for chunk in chunks})


if __name__ == "__main__":
    write(sys.argv[1], sys.argv[2], int(sys.argv[3]))
