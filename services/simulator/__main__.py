"""A process of simulated devices: `python -m services.simulator --share 0/2 [--silent ID]`, on the log at TWINFOLD_REDIS_URL."""

import argparse
import signal

from events import open_producer
from events.log.log_factory import open_log
from events.processes import lifeline
from events.projection_store.redis import RedisProjectionStore
from events.settings import read_settings
from services.simulator.devices import SimulatedDevices


def main() -> None:
    """Answer for the devices of every n-th partition until SIGTERM or SIGINT, or until the parent process ends."""
    lifeline.hold()
    parser = argparse.ArgumentParser(prog="python -m services.simulator")
    parser.add_argument("--share", default="0/1", help="number of this process and number of processes, as in 0/2")
    parser.add_argument("--silent", action="append", default=[], help="a device that never answers; repeatable")
    arguments = parser.parse_args()
    index, count = (int(part) for part in arguments.share.split("/"))
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, _frame: stopping.append(signum))
    settings = read_settings()
    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    with open_producer(settings.redis_url, queue_url=settings.queue_url, by="device:simulator") as producer:
        devices = SimulatedDevices(
            RedisProjectionStore(log.client),
            producer,
            partitions=range(index, log.partitions, count),
            silent=frozenset(arguments.silent),
        )
        devices.run(go_on=lambda: not stopping)


if __name__ == "__main__":
    main()
