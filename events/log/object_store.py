"""Files of the log's history outside Redis: a directory, or an object store behind an fsspec URL."""

import contextlib
import os
import secrets
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
"""What says that a program is wrong, and not that a store does not answer."""


class ObjectStore:
    """Named files under one URL, each written whole or not at all and never changed afterwards."""

    def __init__(self, url: str) -> None:
        """Open a place: a path, or `file://`, `s3://`, `memory://` and whatever else fsspec has a driver for.

        Raises:
            ObjectStoreUnavailable: nobody knows such a URL, or its driver is not installed.
        """
        # It is slow to import, and most processes never look at history.
        from fsspec.core import url_to_fs  # type: ignore[import-untyped]  # noqa: PLC0415

        self.url = url
        with self._answering():
            self._files, self._root = url_to_fs(url)
        self._is_local = "file" in _protocols(self._files)

    def put(self, name: str, data: bytes) -> None:
        """Write a file, in place of one of the same name if there is one; once this returns it is on the disk.

        Raises:
            ObjectStoreUnavailable: it cannot be written: no room, no right, nobody there. Nothing of it is to be seen.
        """
        path = self._path(name)
        with self._answering():
            if self._is_local:
                _write_local(Path(path), data)
            else:
                with self._files.open(path, "wb") as file:
                    file.write(data)

    def get(self, name: str) -> bytes | None:
        """What a file has; `None` where there is none.

        Raises:
            ObjectStoreUnavailable: it cannot be read.
        """
        with self._answering():
            try:
                data: bytes = self._files.cat_file(self._path(name))
            except FileNotFoundError:
                return None
            return data

    def size(self, name: str) -> int | None:
        """How many bytes a file has; `None` where there is none.

        Raises:
            ObjectStoreUnavailable: nobody answers.
        """
        with self._answering():
            try:
                return int(self._files.size(self._path(name)))
            except FileNotFoundError:
                return None

    def stamp(self, name: str) -> int:
        """A number that is another once a file was written again: of its size, times and whatever else its store says of it.

        Raises:
            FileNotFoundError: there is none.
            ObjectStoreUnavailable: nobody answers.
        """
        with self._answering():
            path = self._path(name)
            # Drivers of object stores remember what they listed.
            self._files.invalidate_cache(path)
            return int(self._files.checksum(path))

    def names(self, folder: str = "") -> Sequence[str]:
        """The files under a folder and in folders of it, in order, each by its name from the root on.

        Raises:
            ObjectStoreUnavailable: nobody answers.
        """
        with self._answering():
            try:
                # Others write there too; some drivers remember what was there when they looked last.
                self._files.invalidate_cache()
                found = self._files.find(self._path(folder) if folder else self._root)
            except FileNotFoundError:
                return []
        root = self._root.rstrip("/") + "/"
        return sorted(path.removeprefix(root) for path in found if not PurePosixPath(path).name.startswith("."))

    def delete(self, name: str) -> None:
        """Remove a file, if it is there.

        Raises:
            ObjectStoreUnavailable: it cannot be removed.
        """
        with self._answering(), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._path(name))

    def open(self, name: str) -> "OpenFile":
        """A file to read from, seekable, to close afterwards.

        Raises:
            FileNotFoundError: there is none.
            ObjectStoreUnavailable: it cannot be read.
        """
        with self._answering():
            return OpenFile(self._files.open(self._path(name), "rb"), self._answering)

    def _path(self, name: str) -> str:
        # Names stand in manifests, too, which somebody else may have written.
        if not name or name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise ObjectStoreUnavailable(self.url, f"{name[:120]!r} is no name of a file there")
        return f"{self._root.rstrip('/')}/{name}"

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, ObjectStoreUnavailable, *_FAULTS):
            raise
        # Each store's driver refuses in its own words (botocore's ClientError, azure's HttpResponseError), most of which come
        # from no class that they share, and none of which can be named without having the driver installed.
        except Exception as error:
            raise ObjectStoreUnavailable(self.url, _why(error)) from error


class OpenFile:
    """A file of an object store, open for reading; raises `ObjectStoreUnavailable` where the store does not go on giving it."""

    def __init__(self, file: Any, answering: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
        self._file, self._answering = file, answering

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return bool(self._file.closed)

    def read(self, size: int = -1) -> bytes:
        """So many bytes, fewer at the end; all that there are where none are said."""
        with self._answering():
            data: bytes = self._file.read(size)
            return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; answers where that is."""
        with self._answering():
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """Where it is."""
        return int(self._file.tell())

    def close(self) -> None:
        """Let go of it."""
        self._file.close()


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) if isinstance(error, (OSError, ValueError, ImportError)) else f"{type(error).__name__}: {error}"


def _protocols(files: Any) -> tuple[str, ...]:
    protocol = files.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _write_local(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Processes of two containers that share a directory can have one number.
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
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
