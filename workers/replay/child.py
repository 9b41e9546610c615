"""One process of a replay: `python -m workers.replay.child`. It is asked for streams, one a line, and tells of them, one a line."""

import sys
import time
from collections.abc import Callable
from typing import cast

import msgspec

from events import logs
from events.history.snapshots import Snapshots
from events.log.depot import Depot
from events.log.errors import LogError, LogUnavailable, SegmentDamaged, SegmentMissing
from events.log.opening import open_log
from events.log.port import Log
from events.log.raw import RawStreams
from events.processes import lifeline
from events.projection.driver import PathsMissing
from events.settings import Settings, read_settings
from events.terminal import complain_of
from events.view_store.redis import RedisViewStore
from events.view_store.staging import RebuildSuperseded
from workers.replay.archived import ArchivedLog
from workers.replay.folding import OutcomeDiffers
from workers.replay.rebuilding import Rebuilding
from workers.replay.report import Asked, Away, Begun, Came, Compared, Done, Failed, Said
from workers.replay.streams import CannotBeRead, Replay, Tell

_TELL_SECONDS = 0.2


def main() -> int:
    """Work until there is nothing more to read."""
    lifeline.hold()
    settings = read_settings()
    logs.configure(settings.log_level)
    asked = msgspec.json.decode(sys.argv[1], type=Asked)
    fold, head = _open(settings, asked)
    for line in sys.stdin:
        stream = int(line)
        _tell(Begun(stream, head(stream)))
        try:
            _tell(Done(fold(stream, _telling(stream))))
        except LogUnavailable:
            raise
        except (
            *CannotBeRead,
            SegmentDamaged,
            SegmentMissing,
            OutcomeDiffers,
            PathsMissing,
            RebuildSuperseded,
        ) as error:
            _tell(Failed(stream, str(error)))
    return 0


def _open(settings: Settings, asked: Asked) -> tuple[Callable[[int, Tell], Compared], Callable[[int], int]]:
    if asked.archive:
        archived = ArchivedLog(asked.archive)
        # It reads as a log does; nobody writes to it, or asks it for what stands beside one.
        alone = Replay(cast("Log", archived), archived, None, upto=lambda stream: asked.upto[str(stream)])
        return alone.stream, archived.head
    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    if asked.rebuild:
        return Rebuilding(log).partition, log.head
    views = RedisViewStore(log.client)
    snapshots = Snapshots(Depot(settings.effective_archive_url), RawStreams(log.client), epoch=log.epoch)
    replay = Replay(log, views, views, upto=lambda stream: asked.upto.get(str(stream)), snapshots=snapshots)
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


def _tell(said: Said) -> None:
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
