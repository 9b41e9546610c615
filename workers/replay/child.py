"""One process of a replay: `python -m workers.replay.child`. Reads stream numbers and writes messages, one per line."""

import sys
import time
from collections.abc import Callable
from typing import cast

import msgspec

from events import logs
from events.fleet.errors import CannotApply
from events.history.snapshots import Snapshots
from events.log.errors import (
    LogError,
    LogLostItsTail,
    LogUnavailable,
    ObjectStoreUnavailable,
    SegmentDamaged,
    SegmentMissing,
    UnreadableEvent,
)
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
from workers.replay.rebuild import Rebuilder
from workers.replay.report import Advanced, ChildMessage, Compared, Done, Failed, ReplayRequest, Unavailable
from workers.replay.streams import Replay

_PROGRESS_SECONDS = 0.2
_CANNOT_BE_REPLAYED = (
    UnreadableEvent,
    LogLostItsTail,
    CannotApply,
    SegmentDamaged,
    SegmentMissing,
    AssignmentChangeDiffers,
    PathsMissing,
    RebuildSuperseded,
)


def main() -> int:
    """Replay the streams named on standard input until it ends."""
    lifeline.hold()
    settings = read_settings()
    logs.configure(settings.log_level)
    replay = _open(settings, msgspec.json.decode(sys.argv[1], type=ReplayRequest))
    for line in sys.stdin:
        stream = int(line)
        _write(Advanced(stream, 0))
        try:
            _write(Done(replay(stream, _progress_of(stream))))
        except _CANNOT_BE_REPLAYED as error:
            _write(Failed(stream, str(error)))
    return 0


def _open(settings: Settings, request: ReplayRequest) -> Callable[[int, Callable[[int], None]], Compared]:
    if request.archive:
        archived = ArchivedLog(request.archive)
        # A replay without projections only reads events; an archive has no more methods of a log than those.
        return Replay(cast("Log", archived), archived, None, upto=lambda stream: request.upto[str(stream)]).stream
    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    if request.rebuild:
        return Rebuilder(log).partition
    projections = RedisProjectionStore(log.client)
    snapshots = Snapshots(ObjectStore(settings.effective_archive_url), RawStreams(log.client), epoch=log.epoch)
    return Replay(
        log, projections, projections, upto=lambda stream: request.upto.get(str(stream)), snapshots=snapshots
    ).stream


def _progress_of(stream: int) -> Callable[[int], None]:
    written_at = 0.0

    def report(position: int) -> None:
        nonlocal written_at
        now = time.monotonic()
        if now - written_at >= _PROGRESS_SECONDS:
            written_at = now
            _write(Advanced(stream, position))

    return report


def _write(message: ChildMessage) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LogUnavailable as error:
        # The parent reports it, once for all of its processes.
        _write(Unavailable(error.why))
        sys.exit(1)
    except ObjectStoreUnavailable as error:
        _write(Unavailable(error.why, error.url))
        sys.exit(1)
    except LogError as error:
        complain_of(error, program="twinfold replay")
        sys.exit(1)
