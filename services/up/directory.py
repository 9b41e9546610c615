"""The data directory: held by one `up` at a time, with a layout version, and readable by its owner alone."""

import contextlib
import fcntl
import os
import signal
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from services import atomic_files

LAYOUT = 1
LOCK, ROLES_LOCK = "lock", "roles.lock"
"""`LOCK` is held by `up`, `ROLES_LOCK` by the processes that it started."""

PREDECESSOR_SECONDS_MAX = 30.0
"""How long `up` waits for the processes of a killed `up`. They end by themselves within `lifeline.GRACE_SECONDS` (20)."""

_POLL_SECONDS = 0.2
_FILE_MODE, _FOLDER_MODE = 0o600, 0o700


class DirectoryHeld(Exception):
    """Another process holds the data directory."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path} is in use by process {holder}; stop that process, or choose another --data")
        self.path, self.holder = path, holder


class PredecessorRuns(Exception):
    """Processes of an earlier `up` still work on the data directory."""

    def __init__(self, path: Path, holders: Sequence[int]) -> None:
        named = f" ({', '.join(map(str, holders))})" if holders else ""
        super().__init__(
            f"{path}: processes{named} of an earlier `twinfold up` have not ended within"
            f" {PREDECESSOR_SECONDS_MAX:.0f} s; end them: they hold {path / ROLES_LOCK}"
        )
        self.path, self.holders = path, holders


class LayoutTooNew(Exception):
    """A newer twinfold created the data directory."""

    def __init__(self, path: Path, layout: str) -> None:
        super().__init__(
            f"{path} has layout {layout[:20]!r}, but this twinfold supports layouts up to {LAYOUT}; install a newer one"
        )
        self.path, self.layout = path, layout


class DirectoryUnusable(Exception):
    """The data directory cannot be created or written."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"data directory {path}: {why}")
        self.path, self.why = path, why


@contextlib.contextmanager
def held(path: Path) -> Iterator[int]:
    """Hold a data directory, created if it is missing. All files in it become readable by their owner alone.

    Yields a descriptor that started processes must inherit: the next holder of the directory waits for the last of them.

    Raises:
        DirectoryHeld, PredecessorRuns, LayoutTooNew, DirectoryUnusable: it cannot be worked on.
    """
    # Kernel locks, because the kernel releases them however a process ends; a file with a process id would stay. Two of
    # them, so that roles of a killed `up` never write the append-only file beside those of the next one (decision 0035).
    with contextlib.ExitStack() as stack:
        try:
            path.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
            lock, roles = (_opened(stack, path / name) for name in (LOCK, ROLES_LOCK))
            if not _is_locked(lock):
                raise DirectoryHeld(path, os.read(lock, 40).decode().strip() or "unknown")
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
            _wait_for_predecessors(path, roles)
            _check_layout(path)
            restrict_to_owner(path)
        except OSError as error:
            raise DirectoryUnusable(path, error.strerror or type(error).__name__) from error
        yield roles


def restrict_to_owner(path: Path) -> None:
    """Set the mode of a directory and everything below: files get 0600, directories 0700.

    Raises:
        OSError: a mode cannot be changed, because another user owns the file.
    """
    _set_mode(path, _FOLDER_MODE)
    for folder, folders, names in os.walk(path):
        for name in folders:
            _set_mode(Path(folder, name), _FOLDER_MODE)
        for name in names:
            _set_mode(Path(folder, name), _FILE_MODE)


def _set_mode(path: Path, mode: int) -> None:
    # Redis deletes its temporary files while this runs. A link has no mode of its own, and its target may be anywhere.
    with contextlib.suppress(FileNotFoundError):
        current_mode = path.lstat().st_mode
        if not (stat.S_ISLNK(current_mode) or stat.S_ISSOCK(current_mode) or stat.S_IMODE(current_mode) == mode):
            path.chmod(mode)


def _opened(stack: contextlib.ExitStack, path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
    stack.callback(os.close, descriptor)
    return descriptor


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for_predecessors(path: Path, roles: int) -> None:
    until = time.monotonic() + PREDECESSOR_SECONDS_MAX
    while not _is_locked(roles):
        holders = _holders(path / ROLES_LOCK)
        if time.monotonic() > until:
            raise PredecessorRuns(path, holders)
        for pid in holders:
            # A process that was stopped (SIGSTOP) when its parent died notices the closed lifeline only once it runs again.
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGCONT)
        time.sleep(_POLL_SECONDS)


def _holders(lock: Path) -> list[int]:
    """The other processes that have a file open; empty on systems without /proc (macOS)."""
    pids = set()
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if descriptor.readlink() == lock.resolve():
                pids.add(int(descriptor.parts[2]))
    return sorted(pids - {os.getpid()})


def _check_layout(path: Path) -> None:
    file = path / "layout"
    if not file.exists():
        atomic_files.write(file, f"{LAYOUT}\n".encode())
    layout = file.read_text().strip()
    if not layout.isascii() or not layout.isdigit() or int(layout) > LAYOUT:
        raise LayoutTooNew(path, layout)
