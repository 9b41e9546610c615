"""Commands in groups, the same for every run; `python -m tests.workers.groups URL QUEUE GROUP` writes one."""

import itertools
import sys
from typing import Any

from redis import Redis

from events import DeleteDeployment, PatchTags, Producer, ReportProperties, RetireDevice, UpdateDeployment
from events.envelope import Principal
from events.log.opening import open_log
from events.log.wake import Waker
from tests.workers.system import base, deploy, join, layer

AT = 1_000_000
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


def write(url: str, queue_url: str, number: int) -> None:
    """Write a group, with the same command ids and times whenever and however often it is written."""
    log = open_log(url)
    count = itertools.count()
    producer = Producer(
        log,
        by=Principal.parse("user:ada"),
        waker=Waker(Redis.from_url(queue_url), partitions=log.partitions),
        clock=lambda: AT,
        ids=lambda: f"group{number}-{next(count)}",
    )
    producer.submit(group(number))


if __name__ == "__main__":
    write(sys.argv[1], sys.argv[2], int(sys.argv[3]))
