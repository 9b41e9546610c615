"""`python -m tests.benchmarks.archived URL PARTITION LIMIT`: applies a partition's events, and prints events, CPU seconds, peak MB."""

import sys
import time
from pathlib import Path

from events.fleet.partition import Partition
from events.log.events_ahead import BATCH_EVENTS, EventsAhead
from events.log.fleet_events import FleetEventReader
from events.log.log_factory import open_log
from events.log.port import read_all
from events.projection.driver import Driver


def main(url: str, number: int, limit: int) -> None:
    """Read, decode and apply up to `limit` events; beforehand, read and decode as many, with caches of its own."""
    log = open_log(url)
    upto = min(limit, log.head(number))
    begun = time.process_time()
    for _ in read_all(open_log(url), number, batch=BATCH_EVENTS, upto=upto):
        pass
    read = time.process_time() - begun
    partition = Partition(number)
    begun = time.process_time()
    Driver(partition, EventsAhead(log, number, skips=dict, stops=(upto,)), FleetEventReader(log)).apply(upto)
    applied = time.process_time() - begun
    print(upto, read, applied, _peak_mb())


def _peak_mb() -> float:
    """The most memory that this program ever had in RAM; what getrusage says begins with the parent's."""
    (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
