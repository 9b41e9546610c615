"""A damaged append-only file: the message names the file and the place, and a cut there gives a file that is read again."""

import contextlib
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from typer.testing import CliRunner

from events import RegisterDevice, open_producer
from events.log.log_factory import initialise
from events.settings import read_settings
from services.append_only_file import LogFileDamaged, commands, files, find_damage
from services.cli.app import app
from services.embedded_redis import FOLDER, SERVER_VARIABLE, EmbeddedRedis, find_server
from tests.servers import eventually, oldest_server
from tests.shortening import shortened

pytestmark = pytest.mark.redis_server


@pytest.fixture(params=["embedded", pytest.param("oldest", marks=pytest.mark.full)])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The binary that writes the file and reads it again, of the embedded server and of the oldest that is supported."""
    server = oldest_server() if request.param == "oldest" else find_server(read_settings().redis_server)
    monkeypatch.setenv(SERVER_VARIABLE, str(server))
    return server


@pytest.fixture
def data(server: Path) -> Iterator[Path]:
    """A data directory whose server was killed; its file has a base and, behind it, the events of two devices."""
    with tempfile.TemporaryDirectory(prefix="t-") as name:
        data = Path(name)
        with EmbeddedRedis(data / FOLDER, server=server) as redis:
            initialise(redis.url, partitions=1).client.close()
            with contextlib.closing(Redis.from_url(redis.url)) as client:
                rewrite(client)
                with open_producer(redis.url, by="user:ada") as producer:
                    producer.do(RegisterDevice("edge-1"))
                    producer.do(RegisterDevice("edge-2"))
            redis.kill()
        yield data


def rewrite(client: Redis) -> None:
    """Have the file rewritten: it begins with a base in Redis's own format."""
    client.bgrewriteaof()
    eventually(lambda: client.info()["aof_base_size"] > 0, what="the file has a base")
    eventually(lambda: not client.info()["aof_rewrite_in_progress"], what="it is rewritten")


def newest(data: Path) -> Path:
    return files(data / FOLDER)[-1]


def start(data: Path, said: list[str] | None = None) -> EmbeddedRedis:
    redis = EmbeddedRedis(
        data / FOLDER, server=read_settings().redis_server, print_line=[].append if said is None else said.append
    )
    redis.start()
    return redis


def devices(redis: EmbeddedRedis) -> list[str]:
    with contextlib.closing(Redis.from_url(redis.url)) as client:
        return sorted(field.decode() for field in client.hkeys("{p00}:subjects"))


def repair(data: Path, *, answer: str = "", flags: tuple[str, ...] = ()) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["repair-log", "--data", str(data), *flags], input=answer)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def last_transaction(path: Path) -> int:
    """Where the last event's transaction begins, or the event where it has none."""
    begins, at = 0, 0
    for command in commands(path, 0):
        name = command.words[0].upper()
        if name == b"MULTI":
            at = command.start
        elif name == b"XADD":
            begins = at or command.start
        elif name == b"EXEC":
            at = 0
    return begins


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def test_a_last_command_that_was_not_written_whole_is_cut_off_by_redis_and_that_is_said(data: Path) -> None:
    path = newest(data)
    os.truncate(path, path.stat().st_size - 10)
    said: list[str] = []
    redis = start(data, said)
    assert devices(redis) == ["edge-1"]
    (line,) = said
    assert line.startswith(f"redis cut off the end of {path.name} from byte ")
    redis.stop()


def bad_length(path: Path, at: int) -> None:
    overwrite(path, at, b"*x")


def unknown_command(path: Path, at: int) -> None:
    name = next(command for command in commands(path, at)).words[0]
    overwrite(path, path.read_bytes().index(name, at), b"Q" * len(name))


def unknown_command_in_a_transaction(path: Path, at: int) -> None:
    overwrite(path, path.read_bytes().index(b"XADD", at), b"XXXX")


@pytest.mark.parametrize("damage", shortened([bad_length, unknown_command, unknown_command_in_a_transaction]))
def test_a_damaged_file_is_told_by_its_name_and_place_and_a_cut_there_brings_it_back(
    data: Path, damage: Callable[[Path, int], None]
) -> None:
    path = newest(data)
    location = last_transaction(path)
    damage(path, location)
    size = path.stat().st_size
    with pytest.raises(LogFileDamaged, match="repair-log") as caught:
        start(data)
    assert f"{path} is damaged at byte {location} of {size}" in str(caught.value)

    code, said = repair(data, answer="n\n")
    assert code == 1
    assert f"damaged at byte {location} of {size}" in said
    assert f"{size - location} bytes" in said
    assert "p00:2 DeviceRegistered edge-2" in said or damage is unknown_command_in_a_transaction
    assert path.stat().st_size == size

    code, said = repair(data, answer="y\n")
    assert code == 0
    assert path.stat().st_size == location
    (kept,) = path.parent.glob("*.cut-*")
    assert kept.stat().st_size == size - location
    redis = start(data)
    assert devices(redis) == ["edge-1"]
    redis.stop()
    assert repair(data)[0] == 0


@pytest.mark.full
def test_a_base_that_is_damaged_cannot_be_cut_and_a_backup_is_named(data: Path) -> None:
    base = files(data / FOLDER)[0]
    overwrite(base, 150, b"\xff" * 20)
    with pytest.raises(LogFileDamaged, match="restore a backup") as caught:
        start(data)
    assert str(base) in str(caught.value)
    with pytest.raises(LogFileDamaged, match="restore a backup"):
        repair(data, flags=("--yes",))


@pytest.mark.full
def test_a_base_that_a_newer_server_wrote_is_told_as_that(data: Path) -> None:
    overwrite(files(data / FOLDER)[0], 0, b"REDIS9999")
    with pytest.raises(LogFileDamaged, match="another or a newer server wrote"):
        start(data)


def test_damage_that_shows_when_the_server_is_started_again_is_said_until_it_is_repaired(data: Path) -> None:
    said: list[str] = []
    redis = start(data, said)
    path = newest(data)
    overwrite(path, last_transaction(path), b"*x")
    os.kill(redis.pid, signal.SIGKILL)

    def is_said() -> bool:
        redis.tend()
        return any("repair-log" in line for line in said)

    eventually(is_said, what="the damage is said")
    redis.stop()


def test_a_file_that_is_as_it_should_be_has_no_damage_and_nothing_is_cut(data: Path, server: Path) -> None:
    assert find_damage(server, data / FOLDER) is None
    code, said = repair(data)
    assert (code, said.startswith("no damage in ")) == (0, True)


def test_where_no_log_was_made_nothing_is_made_by_the_repair(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["repair-log", "--data", str(tmp_path / "none")]).exit_code != 0
    assert not (tmp_path / "none").exists()
