"""Processes of this machine as a test looks at them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

EMBEDDED_SERVER = "-server"
"""What the commands of redis-server and valkey-server have in common."""


def is_there(pid: int) -> bool:
    """Whether a process is there, and not dead already."""
    return _fields(pid)[:1] not in (["Z"], ["X"], [])


def is_running(pid: int) -> bool:
    """Whether a process is there, and not stopped either."""
    return is_there(pid) and _fields(pid)[0] not in "Tt"


def is_stopped(pid: int) -> bool:
    """Whether every thread of a process has stopped."""
    states = [_state(path / "stat") for path in Path(f"/proc/{pid}/task").glob("*")]
    return bool(states) and set(states) <= {"T", "t"}


def _state(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text().rpartition(")")[2].split()[0]
    return ""


def children(parent: int, name: str) -> list[int]:
    """The processes that a process has started whose command has a name in it."""
    return [pid for pid, of in _parents() if of == parent and is_there(pid) and name in command_of(pid)]


def descendants(parent: int) -> list[int]:
    """The processes that a process has started, and those have, and so on."""
    parents, found = dict(_parents()), [parent]
    for pid in found:
        found += [child for child, of in parents.items() if of == pid]
    return found[1:]


def _parents() -> Iterator[tuple[int, int]]:
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and len(fields := _fields(int(path.name))) > 1:
            yield int(path.name), int(fields[1])


def _fields(pid: int) -> list[str]:
    """State, parent and more; none where there is no such process."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def command_of(pid: int) -> str:
    """The command of a process, its words separated by NUL; empty if there is no such process."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return ""
