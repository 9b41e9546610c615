import os
import threading
from pathlib import Path

import pytest

from events.secrets.errors import KeyFileExposed, KeyFileMalformed, KeyFileUnreadable
from events.secrets.keyfile import KeyFile, read_key, read_or_create_key
from tests import waiting
from tests.secrets.samples import KEY, OTHER_KEY


def test_a_new_key_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    read_or_create_key(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_key_file_that_is_there_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    made = KeyFile(read_or_create_key(path))
    before = path.read_bytes()
    assert {KeyFile(read_or_create_key(path)).id, KeyFile(read_key(path)).id} == {made.id}
    assert path.read_bytes() == before


def test_two_new_key_files_hold_two_keys(tmp_path: Path) -> None:
    assert KeyFile(read_or_create_key(tmp_path / "a")).id != KeyFile(read_or_create_key(tmp_path / "b")).id


def test_nothing_else_is_left_in_the_directory(tmp_path: Path) -> None:
    read_or_create_key(tmp_path / "master.key")
    assert [path.name for path in tmp_path.iterdir()] == ["master.key"]


def test_processes_that_start_at_once_take_the_same_key(tmp_path: Path) -> None:
    together, ids = threading.Barrier(8), []

    def start() -> None:
        waiting.exit_code(together)
        ids.append(KeyFile(read_or_create_key(tmp_path / "master.key")).id)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(ids), len(set(ids))) == (8, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["master.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o644, 0o610])
def test_a_key_file_that_others_may_use_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "master.key"
    read_or_create_key(path)
    path.chmod(mode)
    with pytest.raises(KeyFileExposed, match=f"mode {mode:04o}.*chmod 600"):
        read_or_create_key(path)


def test_a_key_file_that_only_its_owner_reads_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    made = KeyFile(read_or_create_key(path))
    path.chmod(0o400)
    assert KeyFile(read_key(path)).id == made.id


@pytest.mark.parametrize("data", [b"", b"00" * 31, b"00" * 33, b"gg" * 32, bytes(32), b"00" * 32 + b" x", b"0" * 5000])
def test_a_key_file_that_holds_something_else_is_refused_and_not_quoted(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "master.key"
    path.touch(0o600)
    path.write_bytes(data)
    with pytest.raises(KeyFileMalformed, match="64 hexadecimal digits") as caught:
        read_or_create_key(path)
    assert "0000" not in str(caught.value)
    assert path.read_bytes() == data


def test_white_space_around_the_key_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    path.touch(0o600)
    path.write_bytes(b"\n" + bytes(range(32)).hex().upper().encode() + b"\r\n")
    assert KeyFile(read_key(path)).id == KEY.id


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileUnreadable, match=r"master\.key: No such file"):
        read_key(tmp_path / "master.key")


def test_a_key_file_is_not_made_in_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeyFileUnreadable, match="No such file"):
        read_or_create_key(tmp_path / "nowhere" / "master.key")


def test_a_directory_or_a_pipe_is_no_key_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(KeyFileUnreadable, match="not a regular file"):
            read_or_create_key(path)


def test_a_key_shows_nowhere_and_its_id_does() -> None:
    assert repr(KEY) == f"KeyFile(id='{KEY.id}')"
    assert KEY.id != OTHER_KEY.id
    assert bytes(range(32)).hex()[:16] not in repr(vars(KEY))
    assert KeyFile(bytes(range(32))).id == KEY.id
