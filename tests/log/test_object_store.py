"""A place outside Redis: what is called by a name that is none is refused, and many may write at once."""

import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec  # type: ignore[import-untyped]
import pytest
from fsspec.spec import AbstractFileSystem  # type: ignore[import-untyped]

from events.log.archive.manifest import Segment
from events.log.archive.segment import open_part
from events.log.errors import ObjectStoreUnavailable
from events.log.object_store import ObjectStore


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../../x"])
def test_a_name_that_leads_elsewhere_is_refused_by_the_log_s_own_error(tmp_path: Path, name: str) -> None:
    object_store = ObjectStore(str(tmp_path / "object_store"))
    for reach in (
        object_store.get,
        object_store.size,
        object_store.delete,
        object_store.open,
        lambda name: object_store.put(name, b""),
    ):
        with pytest.raises(ObjectStoreUnavailable, match="not the name of a file"):
            reach(name)


def test_who_writes_one_file_at_once_writes_it_whole(tmp_path: Path) -> None:
    object_store, failed = ObjectStore(str(tmp_path)), list[BaseException]()

    def put(data: bytes) -> None:
        try:
            for _ in range(50):
                object_store.put("one", data)
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    threads = [threading.Thread(target=put, args=(bytes([number]) * 100_000,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(set(object_store.get("one") or b"ab")) == 1
    assert object_store.names() == ["one"]
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_process_wrote_when_it_was_killed_goes_with_a_later_file_and_other_files_stay(tmp_path: Path) -> None:
    object_store = ObjectStore(str(tmp_path))
    old, young, foreign = (
        tmp_path / name for name in (".one.parquet.7.0123abcd", ".two.parquet.8.0123abcd", ".settings.json")
    )
    for file in (old, young, foreign):
        file.write_bytes(b"x")
    for file in (old, foreign):
        os.utime(file, (1, 1))
    object_store.put("three", b"3")
    assert sorted(tmp_path.iterdir()) == sorted([young, foreign, tmp_path / "three"])


def test_a_driver_with_a_cache_writes_to_the_store_that_it_is_for() -> None:
    object_store = ObjectStore("filecache::memory://store")
    object_store.put("one", b"1")
    assert fsspec.filesystem("memory").cat_file("/store/one") == b"1"


class Refused(Exception):
    """As the drivers of object stores have them: of nobody else's kind."""


class Store(AbstractFileSystem):  # type: ignore[misc]
    """A store that refuses, or that opens files and breaks off when they are read."""

    protocol = "refusing"
    raises: ClassVar[Exception] = Refused("An error occurred (403)")

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        if how.get("username") == "nobody":
            raise self.raises

    def _open(self, path: str, mode: str = "rb", **_how: Any) -> Any:
        if mode == "rb" and path.endswith("breaks-off"):
            return _BreaksOff()
        raise self.raises

    def info(self, _path: str, **_how: Any) -> Any:
        raise self.raises

    def find(self, _path: str, **_how: Any) -> Any:
        raise self.raises

    def rm_file(self, _path: str) -> None:
        raise self.raises

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        return {"username": "nobody"} if "nobody@" in path else {}


class _BreaksOff(io.BytesIO):
    def read(self, _size: int | None = -1) -> bytes:
        raise Store.raises

    def seek(self, _offset: int, _whence: int = 0) -> int:
        return 10_000

    def tell(self) -> int:
        return 10_000


@pytest.fixture
def refusing() -> Iterator[ObjectStore]:
    fsspec.register_implementation("refusing", Store, clobber=True)
    yield ObjectStore("refusing://bucket")
    Store.raises = Refused("An error occurred (403)")


def test_what_a_driver_raises_of_its_own_is_told_as_the_log_s_error_that_has_it_as_its_cause(
    refusing: ObjectStore,
) -> None:
    reaches = (
        refusing.get,
        refusing.size,
        refusing.delete,
        refusing.open,
        refusing.names,
        lambda one: refusing.put(one, b""),
    )
    for reach in reaches:
        with pytest.raises(
            ObjectStoreUnavailable, match=r"refusing://bucket: Refused: An error occurred \(403\)"
        ) as refused:
            reach("one")
        assert isinstance(refused.value.__cause__, Refused)
    with pytest.raises(ObjectStoreUnavailable, match="Refused"):
        ObjectStore("refusing://nobody@bucket")


def test_a_store_that_breaks_off_while_a_segment_is_read_is_away_and_the_segment_is_not_damaged(
    refusing: ObjectStore,
) -> None:
    segment = Segment("breaks-off", "p00", 1, 2, 10_000, "", "", "", 0, 0)
    with pytest.raises(ObjectStoreUnavailable, match="Refused"):
        open_part(refusing, segment)


def test_a_fault_of_a_program_is_no_store_that_does_not_answer(refusing: ObjectStore) -> None:
    Store.raises = TypeError("an argument is missing")
    with pytest.raises(TypeError):
        refusing.get("one")
