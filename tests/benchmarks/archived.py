"""`python -m tests.benchmarks.archived URL PARTITION LIMIT`: folds a partition's facts, and prints facts, processor seconds, peak MB."""

import resource
import sys
import time

from events.fleet.partition import Partition
from events.log.opening import open_log
from events.log.reader import Reader
from workers.projector import BATCH_FACTS, device_facts


def main(url: str, number: int, limit: int) -> None:
    """Read, decode and fold up to `limit` facts; beforehand, read and decode as many, with caches of its own."""
    log = open_log(url)
    upto = min(limit, log.head(number))
    begun = time.process_time()
    for _ in Reader(open_log(url), number, batch=BATCH_FACTS).facts(upto=upto):
        pass
    read = time.process_time() - begun
    partition = Partition(number)
    begun = time.process_time()
    while (after := partition.vector.partition) < upto:
        partition.fold(device_facts(log, number, after=after, limit=min(BATCH_FACTS, upto - after)))
    folded = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(upto, read, folded, peak)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
