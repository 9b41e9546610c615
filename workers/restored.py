"""Views of a restored log, from its facts and recorded outcomes, before anybody opens it: `python -m workers.restored P EPOCH`."""

import sys

import msgspec
from typing_extensions import override

from events.envelope import Vector
from events.fleet.outcome import Outcome
from events.log.connect import connect
from events.log.keys import name
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from events.settings import read_settings
from events.view_store.port import ViewStore
from events.view_store.redis import RedisViewStore
from events.views.kept import Writes
from workers.rebuild import rebuild


class BesideOutcomes(RedisViewStore):
    """Views whose outcomes stand in the log already."""

    @override
    def commit(self, partition: int, writes: Writes) -> bool:
        """Make all writes stand; the outcome does."""
        return super().commit(partition, msgspec.structs.replace(writes, outcome=None))


def main() -> None:
    """Rebuild every partition to its last outcome; workers fold on from there. Says how many are done, one line for each."""
    partitions, epoch = int(sys.argv[1]), sys.argv[2]
    log = RedisLog(connect(read_settings().redis_url), partitions=partitions, epoch=epoch)
    views = BesideOutcomes(log.client)
    streams = RawStreams(log.client)
    for number in range(partitions):
        vector = _decided(views, number, streams.head(f"{name(number)}:outcomes"))
        # Where nothing was ever decided nothing is kept, not even how far it is.
        if vector != Vector():
            rebuild(number, log=log, recorded=views, into=views, upto=vector)
        sys.stdout.write(f"{number + 1}\n")
        sys.stdout.flush()


def _decided(views: ViewStore, number: int, last: int) -> Vector:
    """Where the last outcome of a partition was computed to."""
    if not last:
        return Vector()
    (entry,) = views.outcomes(number, after=last - 1, limit=1)
    return msgspec.json.decode(entry.data, type=Outcome).after


if __name__ == "__main__":
    main()
