"""Stores the files of the archive and of backups outside Redis: in a directory, or in an object store by its fsspec URL."""

import contextlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from events.log.errors import ObjectStoreUnavailable

_FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    NameError,
    RecursionError,
    TypeError,
)
"""Errors of a program, not of a store; these are never reported as an unavailable store."""
_DRAFT = re.compile(r"\..+\.[0-9]+\.[0-9a-f]{8}")
_DRAFT_SECONDS_MAX = 3600


class ObjectStore:
    """Named files under one URL. Each is written whole or not at all, and not changed afterwards.

    Every method raises `ObjectStoreUnavailable` if the store does not answer, denies access or has no space.
    """

    def __init__(self, url: str) -> None:
        """Open a directory, or a URL that fsspec has an installed driver for: `file://`, `s3://`, `memory://` and others."""
        # fsspec is slow to import, and most processes never open a store.
        from fsspec.core import url_to_fs  # type: ignore[import-untyped]  # noqa: PLC0415

        self.url = url
        with self._answering():
            self._files, self._root = url_to_fs(url)
        protocol = self._files.protocol
        # One name or several: `filecache`, a driver's only name, is not local.
        self._is_local = "file" in ((protocol,) if isinstance(protocol, str) else protocol)

    def put(self, name: str, data: bytes) -> None:
        """Write a file, replacing one of the same name; when this returns, the file is on the disk."""
        path = self._path(name)
        with self._answering():
            if self._is_local:
                _write_local(Path(path), data)
            else:
                with self._files.open(path, "wb") as file:
                    file.write(data)

    def get(self, name: str) -> bytes | None:
        """The content of a file; `None` if it does not exist."""
        with self._answering():
            try:
                data: bytes = self._files.cat_file(self._path(name))
            except FileNotFoundError:
                return None
            return data

    def size(self, name: str) -> int | None:
        """The size of a file in bytes; `None` if it does not exist."""
        with self._answering():
            try:
                return int(self._files.size(self._path(name)))
            except FileNotFoundError:
                return None

    def stamp(self, name: str) -> int:
        """A number that changes when a file is written again, made from its size, its times and what else the store reports.

        Raises:
            FileNotFoundError: the file does not exist.
        """
        with self._answering():
            path = self._path(name)
            # Drivers of object stores cache listings, and would report the old file.
            self._files.invalidate_cache(path)
            return int(self._files.checksum(path))

    def names(self, folder: str = "") -> Sequence[str]:
        """The names of all files in a folder and below, sorted; each name starts at the root."""
        with self._answering():
            try:
                # Other processes write to the store too, and some drivers cache listings.
                self._files.invalidate_cache()
                paths = self._files.find(self._path(folder) if folder else self._root)
            except FileNotFoundError:
                return []
        root = self._root.rstrip("/") + "/"
        return sorted(path.removeprefix(root) for path in paths if not PurePosixPath(path).name.startswith("."))

    def delete(self, name: str) -> None:
        """Delete a file, if it exists."""
        with self._answering(), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._path(name))

    def open(self, name: str) -> "_OpenFile":
        """A file opened for reading, seekable; the caller closes it.

        Raises:
            FileNotFoundError: the file does not exist.
        """
        with self._answering():
            return _OpenFile(self._files.open(self._path(name), "rb"), self._answering)

    def _path(self, name: str) -> str:
        # Names come from manifests too. A forged manifest must not lead to a file outside the store.
        if not name or name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise ObjectStoreUnavailable(self.url, f"{name[:120]!r} is not the name of a file in it")
        return f"{self._root.rstrip('/')}/{name}"

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, ObjectStoreUnavailable, *_FAULTS):
            raise
        # Each driver has its own errors (botocore's ClientError, azure's HttpResponseError). They have no common base class, and
        # none can be imported without its driver. A program's own faults passed through above.
        except Exception as error:
            raise ObjectStoreUnavailable(self.url, _why(error)) from error


class _OpenFile:
    """A file of an object store, open for reading; raises `ObjectStoreUnavailable` when the store stops answering."""

    def __init__(self, file: Any, answering: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
        self._file, self._answering = file, answering

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)

    def read(self, size: int = -1) -> bytes:
        with self._answering():
            data: bytes = self._file.read(size)
            return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with self._answering():
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._file.close()


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) if isinstance(error, (OSError, ValueError, ImportError)) else f"{type(error).__name__}: {error}"


def _write_local(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _delete_old_drafts(path.parent)
    # A process id alone is not unique: containers that share a directory have the same ids.
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    # The rename is on the disk only once the folder is. After a power failure the manifest could list a file that is not there.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _delete_old_drafts(folder: Path) -> None:
    """Delete the drafts of processes that were killed while they wrote. A younger one may be of a process that still writes."""
    for path in folder.iterdir():
        if _DRAFT.fullmatch(path.name):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _DRAFT_SECONDS_MAX:
                    path.unlink()
