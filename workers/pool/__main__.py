"""The pool as a process: `python -m workers.pool`, or `twinfold worker`. Settings come from TWINFOLD_* variables."""

import events.processes.without_rich  # noqa: F401  # isort: skip
import signal
import sys

from events import logs
from events.log.errors import LogError
from events.processes import lifeline
from events.settings import SettingsInvalid, read_settings
from events.terminal import complain_of
from workers.exits import code_of
from workers.pool.supervisor import Supervisor


def main() -> int:
    """Run the pool until SIGINT or SIGTERM, or until its parent ends."""
    line = lifeline.hold()
    try:
        settings = read_settings()
        logs.configure(settings.log_level)
        supervisor = Supervisor(settings)
    except (LogError, SettingsInvalid) as error:
        line.last_output(str(error))
        complain_of(error, program="twinfold worker")
        return code_of(error)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _signum, _frame: supervisor.stop())
    supervisor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
