"""Files that nobody ever reads half of."""

import os
from pathlib import Path


def put(path: Path, data: bytes) -> None:
    """Put a whole file in place, on the disk once this returns, for its owner alone.

    Raises:
        OSError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)
