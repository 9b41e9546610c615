"""One process of a replay: `python -m workers.replay.child`. It is asked for streams, one a line, and tells of them, one a line."""

import sys
import time
from collections.abc import Callable
from typing import cast

import msgspec

from events import logs
from events.history.snapshots import Snapshots
from events.log.errors import LogError, LogUnavailable, SegmentDamaged, SegmentMissing
from events.log.log_factory import open_log
from events.log.object_store import ObjectStore
from events.log.port import Log
from events.log.raw import RawStreams
from events.processes import lifeline
from events.projection.driver import PathsMissing
from events.projection_store.redis import RedisProjectionStore
from events.projection_store.staged_projection import RebuildSuperseded
from events.settings import Settings, read_settings
from events.terminal import complain_of
from workers.replay.archived import ArchivedLog
from workers.replay.partition_replay import AssignmentChangeDiffers
from workers.replay.rebuild import Rebuilding
from workers.replay.report import Away, Begun, Came, ChildMessage, Compared, Done, Failed, ReplayRequest
from workers.replay.streams import CannotBeRead, Replay, ReportProgress

_TELL_SECONDS = 0.2


def main() -> int:
    """Work until there is nothing more to read."""
    lifeline.hold()
    settings = read_settings()
    logs.configure(settings.log_level)
    asked = msgspec.json.decode(sys.argv[1], type=ReplayRequest)
    apply, head = _open(settings, asked)
    for line in sys.stdin:
        stream = int(line)
        _tell(Begun(stream, head(stream)))
        try:
            _tell(Done(apply(stream, _telling(stream))))
        except LogUnavailable:
            raise
        except (
            *CannotBeRead,
            SegmentDamaged,
            SegmentMissing,
            AssignmentChangeDiffers,
            PathsMissing,
            RebuildSuperseded,
        ) as error:
            _tell(Failed(stream, str(error)))
    return 0


def _open(
    settings: Settings, asked: ReplayRequest
) -> tuple[Callable[[int, ReportProgress], Compared], Callable[[int], int]]:
    if asked.archive:
        archived = ArchivedLog(asked.archive)
        # It reads as a log does; nobody writes to it, or asks it for what stands beside one.
        alone = Replay(cast("Log", archived), archived, None, upto=lambda stream: asked.upto[str(stream)])
        return alone.stream, archived.head
    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    if asked.rebuild:
        return Rebuilding(log).partition, log.head
    projections = RedisProjectionStore(log.client)
    snapshots = Snapshots(ObjectStore(settings.effective_archive_url), RawStreams(log.client), epoch=log.epoch)
    replay = Replay(log, projections, projections, upto=lambda stream: asked.upto.get(str(stream)), snapshots=snapshots)
    return replay.stream, log.head


def _telling(stream: int) -> Callable[[int], None]:
    told_at = 0.0

    def tell(position: int) -> None:
        nonlocal told_at
        now = time.monotonic()
        if now - told_at >= _TELL_SECONDS:
            told_at = now
            _tell(Came(stream, position))

    return tell


def _tell(said: ChildMessage) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LogUnavailable as error:
        # Whoever started it says so, once for all of its processes.
        _tell(Away(error.why))
        sys.exit(1)
    except LogError as error:
        complain_of(error, program="twinfold replay")
        sys.exit(1)
