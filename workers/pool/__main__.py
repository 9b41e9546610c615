"""The pool as a process: `python -m workers.pool`, or `twinfold worker`. Settings come from TWINFOLD_* variables."""

import signal
import sys

from events import logs
from events.log.errors import LogError, LogNotInitialised, LogUnavailable, UnsafeRedis
from events.settings import SettingsInvalid, read_settings
from events.terminal import complain_of
from workers.pool.supervisor import Supervisor

# The codes of services/cli/exits.py, which this process leaves with in the program's place.
_REFUSED = 1
_USAGE = 2
_UNAVAILABLE = 3


def main() -> int:
    """Keep the pool until SIGINT or SIGTERM."""
    try:
        settings = read_settings()
        logs.configure(settings.log_level)
        supervisor = Supervisor(settings)
    except (LogError, SettingsInvalid) as error:
        complain_of(error, program="twinfold worker")
        return _code_of(error)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _signum, _frame: supervisor.stop())
    supervisor.run()
    return 0


def _code_of(error: LogError | SettingsInvalid) -> int:
    match error:
        case SettingsInvalid():
            return _USAGE
        case LogUnavailable() | LogNotInitialised() | UnsafeRedis():
            return _UNAVAILABLE
        case LogError():
            return _REFUSED


if __name__ == "__main__":
    sys.exit(main())
