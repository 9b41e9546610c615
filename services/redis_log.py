"""The embedded server's own log since its start."""

import contextlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

_LINES = 3
_PREFIX = re.compile(r"^\d+:\w \d+ \w+ \d+ [\d:.]+ [.*#-] ")
"""Process, time and level of a line, which the messages for operators omit."""

_FREE_BYTES_MIN = 64 << 10
_BYTES_MAX = 1 << 20
_DAMAGED = re.compile(
    r"reading the append only file|reading the RDB preamble|RDB file reading failure|RDB CRC|Internal error in RDB"
    r"|RDB ERROR DETECTED|doesn't exist|Wrong signature"
)
_CUT = re.compile(r"!!! Truncating the AOF (?:(\S+) )?at offset (\d+)")


class RedisDidNotStart(Exception):
    """The embedded server ended, or did not answer in time; `why` has the last lines of its log."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the embedded Redis did not start: {why}")
        self.why = why


class ServerLog:
    """The log's lines since the last `begin`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._start = 0

    def begin(self) -> None:
        """Start the lines of the next process."""
        self._start = self.file.stat().st_size if self.file.exists() else 0

    def lines(self) -> Sequence[str]:
        """The lines of the process; at most the newest MiB."""
        with contextlib.suppress(OSError), self.file.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(self._start, size - _BYTES_MAX))
            return file.read().decode(errors="replace").splitlines()
        return ()

    def last_output(self) -> str:
        """The last lines, joined into one; with the reason first if the disk is full."""
        lines = " | ".join(_PREFIX.sub("", line) for line in self.lines()[-_LINES:])
        text = lines or "it ended at once and left no log"
        # A server on a full disk cannot write the reason into its log.
        return f"the disk of {self.file.parent} is full: {text}" if self._is_full() else text

    def _is_full(self) -> bool:
        with contextlib.suppress(OSError):
            return shutil.disk_usage(self.file.parent).free < _FREE_BYTES_MIN
        return False

    def has_damage(self) -> bool:
        """Whether the process could not read its append-only file."""
        return any(map(_DAMAGED.search, self.lines()))

    def cut(self) -> str | None:
        """A message about the end that the process cut off its append-only file at its start; `None` if it did not."""
        cuts = [match for match in map(_CUT.search, self.lines()) if match]
        if not cuts:
            return None
        return (
            f"cut off the end of {cuts[-1][1] or 'appendonly.aof'} from byte {cuts[-1][2]} on: the last command there"
            " was not written whole, and had not been acknowledged"
        )
