"""The data directory: one `up` at a time holds it, and it says which layout it has."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

LAYOUT = 1


class DirectoryHeld(Exception):
    """Another `twinfold up` works on the data directory."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path} is held by process {holder}; stop that one, or give another --data")
        self.path, self.holder = path, holder


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
def held(path: Path) -> Iterator[None]:
    """Hold a data directory, made if it is not there; the kernel lets go of it however this process ends.

    Raises:
        DirectoryHeld, LayoutTooNew, DirectoryUnusable: it cannot be worked on.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DirectoryUnusable(path, error.strerror or type(error).__name__) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DirectoryHeld(path, os.read(descriptor, 40).decode().strip() or "unknown") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        _check_layout(path)
        yield
    finally:
        os.close(descriptor)


def _check_layout(path: Path) -> None:
    file = path / "layout"
    if not file.exists():
        file.write_text(f"{LAYOUT}\n")
    layout = file.read_text().strip()
    if not layout.isascii() or not layout.isdigit() or int(layout) > LAYOUT:
        raise LayoutTooNew(path, layout)
