"""A replay as a process: `python -m workers.replay REQUEST`, or `twinfold replay`. Settings come from TWINFOLD_* variables."""

import os
import signal
import sys
import time

import msgspec

from events import logs
from events.log.errors import LogError, LogNotInitialised, LogUnavailable, ObjectStoreUnavailable, UnsafeRedis
from events.log.keys import FLEET, name
from events.log.log_factory import open_log
from events.log.redis import RedisLog
from events.processes.supervised import UNAVAILABLE
from events.settings import SettingsInvalid, environment_of, read_settings
from events.terminal import complain_of, print_json, print_lines
from workers.replay.archived import ArchivedLog
from workers.replay.pool import ProcessDied, replay_streams
from workers.replay.replay_output import Summary, progress_bar
from workers.replay.report import Compared, Done, Failed, ReplayRequest

CANNOT_BE_DONE = 2


class StreamUnknown(Exception):
    """A log has no such stream."""

    def __init__(self, stream: int, partitions: int) -> None:
        super().__init__(f"no stream {name(stream)}: this log has fleet and {name(0)} to {name(partitions - 1)}")
        self.stream = stream


class NothingToReplay(Exception):
    """The end of the replay is before the first event."""

    def __init__(self) -> None:
        super().__init__("nothing to replay: the first event is later than the end of the replay; give a later --upto")


def main() -> int:
    """Replay or rebuild, show the progress, and print the result; returns the exit code."""
    request = msgspec.json.decode(sys.argv[1], type=ReplayRequest)
    try:
        return _run(request)
    except (LogError, SettingsInvalid, ProcessDied, StreamUnknown, NothingToReplay) as error:
        complain_of(error, program="twinfold rebuild" if request.rebuild else "twinfold replay")
        # 1 means differences here, so that no error may exit with it (docs/guides/replay.md).
        unavailable = LogUnavailable | LogNotInitialised | UnsafeRedis | ObjectStoreUnavailable
        return UNAVAILABLE if isinstance(error, unavailable) else CANNOT_BE_DONE


def _run(request: ReplayRequest) -> int:
    settings = read_settings()
    logs.configure(settings.log_level)
    log: RedisLog | ArchivedLog
    log = (
        ArchivedLog(request.archive)
        if request.archive
        else open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    )
    heads, upto = log.heads(), dict(request.upto)
    if request.until is not None:
        upto |= {str(stream): log.position_at(stream, request.until) for stream in heads}
    if request.archive:
        upto = {str(stream): min(head, upto.get(str(stream), head)) for stream, head in heads.items()}
    if request.until is not None and not upto[str(FLEET)]:
        raise NothingToReplay
    request = msgspec.structs.replace(request, upto=upto)
    partitions = tuple(range(log.partitions))
    streams = request.streams or (partitions if request.rebuild else (FLEET, *partitions))
    for stream in streams:
        if stream not in (partitions if request.rebuild else heads):
            raise StreamUnknown(stream, log.partitions)
    # Longest first: a long stream that starts last would run alone while the other processes have no work.
    streams = tuple(sorted(streams, key=lambda stream: -heads[stream]))
    events = sum(min(heads[stream], upto.get(str(stream), heads[stream])) for stream in streams)
    began, done, failed = time.monotonic(), list[Compared](), list[Failed]()
    with progress_bar(events) as hear:
        processes = request.workers or os.cpu_count() or 1
        for message in replay_streams(request, streams, processes=processes, environment=environment_of(settings)):
            hear(message)
            if isinstance(message, Done):
                done.append(message.compared)
            elif isinstance(message, Failed):
                failed.append(message)
    # Streams end in any order; the summary lists them by number.
    done.sort(key=lambda compared: compared.stream)
    summary = Summary(done, failed, time.monotonic() - began, rebuilt=request.rebuild)
    if request.json:
        print_json(summary.as_json().decode())
    else:
        print_lines(*summary.as_lines())
    return summary.code


if __name__ == "__main__":
    # Ctrl-C reaches this process alone; its children hold a lifeline and end with it (decisions/0035).
    signal.signal(signal.SIGINT, lambda _signum, _frame: os._exit(130))
    sys.exit(main())
