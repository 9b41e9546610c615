"""Sealing in the scheduler's process: killed at every step, two at once, and verified by the program."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from typer.testing import CliRunner

from events.audit.seal_store import Seals
from events.audit.sealer import public_key
from events.audit.verify import verify_log
from events.log.entries import stream_names
from events.log.failpoints import VARIABLE, FailPoint
from events.log.raw import RawStreams
from services.cli.app import app
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.audit.sealing import fill, settings_of, write_again
from tests.servers import eventually
from tests.workers.system import PARTITIONS, System, fresh_system

pytestmark = pytest.mark.redis_server

SCHEDULER = ("-m", "services.scheduler")
OFTEN = {"TWINFOLD_SEAL_EVERY_SECONDS": "0.1", "TWINFOLD_SEAL_EVERY_EVENTS": "1"}
STEPS = (
    FailPoint.SEAL_CHAINED,
    FailPoint.SEAL_APPENDED,
    *(
        pytest.param(point, marks=pytest.mark.long, id=point.value)
        for point in (FailPoint.SEAL_LEASED, FailPoint.SEAL_KEPT, FailPoint.SEAL_HELD)
    ),
)


@pytest.fixture
def system(shared_redis: EmbeddedRedis) -> Iterator[System]:
    with fresh_system(shared_redis) as system:
        fill(system, 20)
        yield system


def is_sealed(system: System) -> bool:
    """Whether every entry there is is sealed."""
    last = Seals(system.log.client).last()
    streams = RawStreams(system.log.client)
    heads = {name: streams.head(name) for name in stream_names(PARTITIONS)}
    sealed = {} if last is None else last.seal().streams
    return all(head == (sealed[name].position if name in sealed else 0) for name, head in heads.items())


def assert_fine(system: System) -> None:
    settings = settings_of(system, system.data_dir)
    report = verify_log(settings, system.log, [public_key(settings)])
    assert report.is_fine, report.faults
    assert report.unsealed == ()


@pytest.mark.parametrize("point", STEPS, ids=lambda point: point.value)
def test_killed_at_any_step_it_goes_on_where_it_was_and_seals_nothing_twice(system: System, point: FailPoint) -> None:
    with system.process(*SCHEDULER, **OFTEN, **{VARIABLE: point.value}) as process:
        eventually(lambda: process.poll() is not None, what="it is killed")
    # Whoever was killed holds the lease a while longer.
    system.log.client.delete("{fleet}:lease:sealer", "{fleet}:lease:scheduler")
    fill(system, 5, prefix="later")
    with system.process(*SCHEDULER, **OFTEN):
        eventually(lambda: is_sealed(system), what="everything is sealed")
    assert_fine(system)
    seals = list(Seals(system.log.client).all())
    assert [number for _, number, _ in seals] == list(range(1, len(seals) + 1))
    held = {name: system.log.client.hget(f"{{{name}}}:log:holders", "sealer") for name in ("fleet", "p00", "p01")}
    assert held == {"fleet": b"1", **{f"p0{one}": str(system.log.heads()[one]).encode() for one in (0, 1)}}


@pytest.mark.full
def test_of_two_one_seals(system: System) -> None:
    with system.process(*SCHEDULER, **OFTEN), system.process(*SCHEDULER, **OFTEN):
        for number in range(5):
            fill(system, 5, prefix=f"more{number}-")
            eventually(lambda: is_sealed(system), what="everything is sealed")
    assert_fine(system)


def verify(system: System, *flags: str) -> "tuple[int, str]":
    """What the program exits with, and what it says."""
    environment = {"TWINFOLD_DATA_DIR": str(system.data_dir)}
    done = CliRunner().invoke(app, ["audit", "verify", "--redis-url", system.url, *flags], env=environment)
    return done.exit_code, done.stdout


def test_the_program_verifies_with_the_public_key_alone_and_leaves_with_what_it_found(
    system: System, tmp_path: Path
) -> None:
    assert verify(system)[0] == 2
    with system.process(*SCHEDULER, **OFTEN):
        eventually(lambda: is_sealed(system), what="everything is sealed")
    words = [sys.executable, "-m", "services.cli", "audit", "key", "--data", str(system.data_dir)]
    pem = tmp_path / "seal.pem"
    pem.write_bytes(waiting.run(words, check=True, text=False).stdout)
    assert b"PRIVATE" not in pem.read_bytes()
    (system.data_dir / "seal.key").unlink()
    code, said = verify(system, "--public-key", str(pem))
    assert (code, said.splitlines()[-1]) == (0, "everything is as it was sealed")

    # Where nothing was looked at, nothing is said to be as it was.
    for nowhere in (("--to", "2001-01-01"), ("--from", "2999-01-01"), ("--from", "1000000"), ("--to", "0")):
        assert verify(system, "--public-key", str(pem), *nowhere) == (2, ""), nowhere
    for backwards in (("--from", "3", "--to", "1"), ("--from", "2026-05-02", "--to", "2026-05-01")):
        assert verify(system, "--public-key", str(pem), *backwards) == (2, ""), backwards
    assert verify(system, "--public-key", str(pem), "--from", "1", "--to", "1")[0] == 0

    def change(fields: list[dict[bytes, bytes]]) -> None:
        fields[2][b"subject"] = b"somebody"

    write_again(system, "p02", change)
    code, said = verify(system, "--public-key", str(pem))
    assert code == 1
    assert "p02:3 differs from the sealed entry" in said
    as_json = json.loads(verify(system, "--public-key", str(pem), "--json")[1])
    assert [fault["location"] for fault in as_json["faults"]] == ["p02:3"]
    assert verify(system, "--public-key", __file__)[0] == 2
    assert verify(system, "--from", "yesterday")[0] == 2


@pytest.mark.full
def test_an_archive_that_is_away_does_not_keep_seals_from_being_made_and_gets_them_later(system: System) -> None:
    archive = system.data_dir / "archive"
    archive.write_text("a file stands in its place")
    with system.process(*SCHEDULER, **OFTEN):
        eventually(lambda: is_sealed(system), what="everything is sealed")
        archive.unlink()
        fill(system, 1, prefix="later")
        eventually(lambda: is_sealed(system), what="everything is sealed")
        eventually(
            lambda: len(list(archive.glob("seals/*/*.seal"))) == len(list(Seals(system.log.client).all())),
            what="the archive has every seal",
        )
    assert_fine(system)
    client = Redis.from_url(system.url)
    client.delete("{fleet}:seals")
    client.close()
    settings = settings_of(system, system.data_dir)
    assert not verify_log(settings, system.log, [public_key(settings)]).is_fine
