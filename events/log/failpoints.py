"""Fail-points: named steps between a command and its projection or delivery, at each of which a test can kill the process."""

import enum
import os
import signal
from collections.abc import Callable

VARIABLE = "TWINFOLD_FAILPOINT"


class FailPoint(enum.Enum):
    """A point between two steps: the step before it is done, the step after it is not."""

    APPEND_BEFORE_SCRIPT = "append_before_script"
    APPEND_AFTER_SCRIPT = "append_after_script"
    WAKE_BEFORE_ENQUEUE = "wake_before_enqueue"
    WAKE_AFTER_ENQUEUE = "wake_after_enqueue"
    TURN_CLAIMED = "turn_claimed"
    PROJECT_READ = "project_read"
    PROJECT_EVOLVED = "project_evolved"
    PROJECT_RESOLVED = "project_resolved"
    COMMIT_BEFORE_SCRIPT = "commit_before_script"
    COMMIT_AFTER_SCRIPT = "commit_after_script"
    TURN_LEFT = "turn_left"
    TURN_REQUEUED = "turn_requeued"
    SCHEDULE_LEASED = "schedule_leased"
    SCHEDULE_JUDGED = "schedule_judged"
    DELIVERY_POSTED = "delivery_posted"
    DELIVERY_NOTED = "delivery_noted"
    REBUILD_BEGUN = "rebuild_begun"
    REBUILD_STAGED = "rebuild_staged"
    REBUILD_BEFORE_SWITCH = "rebuild_before_switch"
    REBUILD_AFTER_SWITCH = "rebuild_after_switch"
    ARCHIVE_PUT = "archive_put"
    ARCHIVE_VERIFIED = "archive_verified"
    ARCHIVE_LISTED = "archive_listed"
    ARCHIVE_NOTED = "archive_noted"
    ARCHIVE_COMPARED = "archive_compared"
    ARCHIVE_KEPT = "archive_kept"
    ARCHIVE_TRIMMED = "archive_trimmed"
    SEAL_LEASED = "seal_leased"
    SEAL_CHAINED = "seal_chained"
    SEAL_APPENDED = "seal_appended"
    SEAL_KEPT = "seal_kept"
    SEAL_HELD = "seal_held"
    BACKUP_HEAD_READ = "backup_head_read"
    BACKUP_FILE_PUT = "backup_file_put"
    BACKUP_BEFORE_LIST = "backup_before_list"
    RESTORE_ENTRIES_PUT = "restore_entries_put"
    RESTORE_BEFORE_FINISH = "restore_before_finish"


_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
_name, _count, _action = (*os.environ.get(VARIABLE, "").split(":"), "", "")[:3]
_left, _signal = int(_count or 1), _SIGNALS[_action or "kill"]
observers: list[Callable[[FailPoint], None]] = []
"""Called at every fail-point that the process passes; a test that lists all of them adds itself here."""


def reached(point: FailPoint) -> None:
    """Kill this process with SIGKILL if `TWINFOLD_FAILPOINT` names this point.

    `name` kills at the first pass, `name:3` at the third; `name:3:stop` stops the process there with SIGSTOP.
    """
    global _left  # noqa: PLW0603 - one countdown per process
    if observers:
        for observer in observers:
            observer(point)
    # SIGKILL: no handler, no `finally` and no buffer is written, as when the kernel kills a process for its memory.
    if _name == point.value:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), _signal)
