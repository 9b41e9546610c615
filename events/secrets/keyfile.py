"""The key file: one key outside Redis that wraps the data keys of all secrets."""

import hashlib
import os
import re
import stat
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from typing_extensions import override

from events.secrets.errors import KeyFileExposed, KeyFileMalformed, KeyFileUnreadable

KEY_BYTES = 32

_OTHERS = 0o077
_BYTES_MAX = 4096
_digits = re.compile(rb"\s*([0-9a-fA-F]{64})\s*").fullmatch


class KeyFile:
    """A key from a key file. `id` names it in sealed secrets and messages; the key itself is never shown."""

    def __init__(self, key: bytes) -> None:
        assert len(key) == KEY_BYTES
        self.id = hashlib.sha256(b"twinfold key id\0" + key).hexdigest()[:16]
        self.cipher = AESGCM(key)

    @override
    def __repr__(self) -> str:
        return f"KeyFile(id={self.id!r})"


def read_key(path: Path) -> bytes:
    """The KEY_BYTES bytes of the key in a key file, for secrets or for seals; a KeyFileError if it cannot be used."""
    try:
        # O_NONBLOCK: opening a named pipe would wait for a writer, for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise KeyFileUnreadable(path, "is not a regular file")
            if mode & _OTHERS:
                raise KeyFileExposed(path, stat.S_IMODE(mode))
            data = os.read(descriptor, _BYTES_MAX)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise KeyFileUnreadable(path, error.strerror or type(error).__name__) from None
    digits = _digits(data)
    if digits is None:
        raise KeyFileMalformed(path, len(data))
    return bytes.fromhex(digits[1].decode())


def read_or_create_key(path: Path) -> bytes:
    """The key in a key file, which is created with a random key if it does not exist; its directory must exist.

    Several processes may call this at once: one file is created, and all of them return its key. Raises as `read_key`.
    """
    try:
        if not path.exists():
            _create(path, os.urandom(KEY_BYTES))
    except OSError as error:
        raise KeyFileUnreadable(path, error.strerror or type(error).__name__) from None
    return read_key(path)


def _create(path: Path, key: bytes) -> None:
    # Written to a draft first: a process that is killed leaves no incomplete key file.
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.hex().encode() + b"\n")
            file.flush()
            os.fsync(descriptor)
        # Unlike a rename, a link fails if the file exists: of two processes at once, the second uses the key of the first.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
