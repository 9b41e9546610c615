"""A replay as a process: `python -m workers.replay ASKED`, or `twinfold replay`. Settings come from TWINFOLD_* variables."""

import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from events import logs
from events.log.errors import LogError, LogNotInitialised, LogUnavailable, UnsafeRedis
from events.log.keys import FLEET, name
from events.log.log_factory import open_log
from events.log.redis import RedisLog
from events.settings import SettingsInvalid, environment_of, read_settings
from events.terminal import complain_of, print_json, print_lines
from workers.replay.archived import ArchivedLog
from workers.replay.pool import ProcessDied, told
from workers.replay.replay_output import Bar, Summary
from workers.replay.report import Done, Failed, ReplayRequest

CANNOT_BE_DONE = 2
_UNAVAILABLE = 3


class StreamUnknown(Exception):
    """A log has no such stream."""

    def __init__(self, stream: int, partitions: int) -> None:
        super().__init__(f"no stream {name(stream)}: this log has fleet and {name(0)} to {name(partitions - 1)}")
        self.stream = stream


class NothingSoEarly(Exception):
    """The end that somebody gave lies before the first event."""

    def __init__(self) -> None:
        super().__init__("there is nothing to replay: the log had not begun by then")


def main() -> int:
    """Replay or rebuild, show how far it is, and say what came of it."""
    asked = msgspec.json.decode(sys.argv[1], type=ReplayRequest)
    command = "twinfold rebuild" if asked.rebuild else "twinfold replay"
    try:
        return _run(asked)
    except (LogUnavailable, LogNotInitialised, UnsafeRedis) as error:
        code = _UNAVAILABLE
        complain_of(error, program=command)
    except (LogError, SettingsInvalid, ProcessDied, StreamUnknown, NothingSoEarly) as error:
        code = CANNOT_BE_DONE
        complain_of(error, program=command)
    return code


def _run(asked: ReplayRequest) -> int:
    settings = read_settings()
    logs.configure(settings.log_level)
    log: RedisLog | ArchivedLog
    log = (
        ArchivedLog(asked.archive)
        if asked.archive
        else open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    )
    heads = log.heads()
    asked = _with_ends(asked, log, heads)
    if asked.until is not None and not asked.upto[str(FLEET)]:
        raise NothingSoEarly
    partitions = tuple(range(log.partitions))
    streams = asked.streams or (partitions if asked.rebuild else (FLEET, *partitions))
    for stream in streams:
        if stream not in (partitions if asked.rebuild else heads):
            raise StreamUnknown(stream, log.partitions)
    # The longest first, so that no process is left alone with it at the end.
    streams = tuple(sorted(streams, key=lambda stream: -heads[stream]))
    events = sum(min(heads[stream], asked.upto.get(str(stream), heads[stream])) for stream in streams)
    began, done, failed = time.monotonic(), list[Any](), list[Failed]()
    with Bar(events) as hear:
        processes = asked.workers or os.cpu_count() or 1
        for one in told(asked, streams, processes=processes, environment=environment_of(settings)):
            hear(one)
            match one:
                case Done(compared):
                    done.append(compared)
                case Failed():
                    failed.append(one)
                case _:
                    pass
    done.sort(key=lambda compared: compared.stream)
    summary = Summary(tuple(done), tuple(failed), time.monotonic() - began, rebuilt=asked.rebuild)
    if asked.json:
        print_json(summary.as_json().decode())
    else:
        print_lines(*summary.as_lines())
    return summary.code


def _with_ends(asked: ReplayRequest, log: RedisLog | ArchivedLog, heads: Mapping[int, int]) -> ReplayRequest:
    """With the last position of each stream where there is an end: a time, or the end of an archive."""
    upto = dict(asked.upto)
    if asked.until is not None:
        upto |= {str(stream): log.position_at(stream, asked.until) for stream in heads}
    if asked.archive:
        upto = {str(stream): min(head, upto.get(str(stream), head)) for stream, head in heads.items()}
    return msgspec.structs.replace(asked, upto=upto)


if __name__ == "__main__":
    # A Ctrl-C ends the processes as well: they die with this one.
    signal.signal(signal.SIGINT, lambda _signum, _frame: os._exit(130))
    sys.exit(main())
