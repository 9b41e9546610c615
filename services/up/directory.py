"""The data directory: one `up` at a time holds it, it says which layout it has, and it is its owner's alone."""

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
"""Held by `up` itself; and by the processes that it started, so that two generations of them never work side by side."""

PREDECESSOR_SECONDS_MAX = 30.0
"""So long the processes of an `up` that was killed are waited for: they end by themselves."""

_POLL_SECONDS = 0.2
_FILE_MODE, _FOLDER_MODE = 0o600, 0o700


class DirectoryHeld(Exception):
    """Another `twinfold up` works on the data directory."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path} is held by process {holder}; stop that one, or give another --data")
        self.path, self.holder = path, holder


class PredecessorRuns(Exception):
    """Processes of an `up` that is gone still work on the data directory."""

    def __init__(self, path: Path, holders: Sequence[int]) -> None:
        named = f" ({', '.join(map(str, holders))})" if holders else ""
        super().__init__(
            f"{path}: processes{named} of a former `twinfold up` have not ended within"
            f" {PREDECESSOR_SECONDS_MAX:.0f} s; end them: they hold {path / ROLES_LOCK}"
        )
        self.path, self.holders = path, holders


class LayoutTooNew(Exception):
    """A newer twinfold made the data directory."""

    def __init__(self, path: Path, layout: str) -> None:
        super().__init__(f"{path} has layout {layout[:20]!r}, this twinfold knows {LAYOUT}; install a newer one")
        self.path, self.layout = path, layout


class DirectoryUnusable(Exception):
    """The data directory cannot be made or written."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"data directory {path}: {why}")
        self.path, self.why = path, why


@contextlib.contextmanager
def held(path: Path) -> Iterator[int]:
    """Hold a data directory, made if it is not there; the kernel lets go of it however this process ends.

    Yields a descriptor for the processes that are started here to inherit: whoever holds the directory next waits for the
    last of them. What was there already is for its owner alone from here on.

    Raises:
        DirectoryHeld, PredecessorRuns, LayoutTooNew, DirectoryUnusable: it cannot be worked on.
    """
    with contextlib.ExitStack() as stack:
        try:
            path.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
            lock, roles = (stack.enter_context(_opened(path / name)) for name in (LOCK, ROLES_LOCK))
            if not _is_locked(lock):
                raise DirectoryHeld(path, os.read(lock, 40).decode().strip() or "unknown")
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
            _wait_for_predecessors(path, roles)
            _check_layout(path)
            close_to_others(path)
        except OSError as error:
            raise DirectoryUnusable(path, error.strerror or type(error).__name__) from error
        yield roles


def close_to_others(path: Path) -> None:
    """Take every right of others on a directory and all that is below away: files have 0600, directories 0700.

    Raises:
        OSError: a mode cannot be changed, as the file is another user's.
    """
    _set_mode(path, _FOLDER_MODE)
    for folder, folders, names in os.walk(path):
        for name in folders:
            _set_mode(Path(folder, name), _FOLDER_MODE)
        for name in names:
            _set_mode(Path(folder, name), _FILE_MODE)


def _set_mode(path: Path, mode: int) -> None:
    # Files come and go, such as Redis's drafts; a link's own mode says nothing, and its target is not ours.
    with contextlib.suppress(FileNotFoundError):
        found = path.lstat().st_mode
        if stat.S_ISLNK(found) or stat.S_ISSOCK(found) or stat.S_IMODE(found) == mode:
            return
        path.chmod(mode)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


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
            # One that was stopped just as its parent died does not know yet that it is to end.
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGCONT)
        time.sleep(_POLL_SECONDS)


def _holders(lock: Path) -> list[int]:
    """The other processes that have a file open, where the system tells (Linux)."""
    found = set()
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if descriptor.readlink() == lock.resolve():
                found.add(int(descriptor.parts[2]))
    return sorted(found - {os.getpid()})


def _check_layout(path: Path) -> None:
    file = path / "layout"
    if not file.exists():
        atomic_files.write(file, f"{LAYOUT}\n".encode())
    layout = file.read_text().strip()
    if not layout.isascii() or not layout.isdigit() or int(layout) > LAYOUT:
        raise LayoutTooNew(path, layout)
