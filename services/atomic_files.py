"""Files that are never seen half-written."""

import os
from pathlib import Path


def write(path: Path, data: bytes) -> None:
    """Write or replace a file, readable only for its owner; it is on the disk when this returns.

    Raises:
        OSError: it cannot be written.
    """
    # A rename replaces the file at once: a reader gets the old content or the new, also after a crash.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)
