"""A clock that was 30 days ahead for a while: sealing goes on, leases end, and it is told how far the clock is behind."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from events.audit.seal_store import Seals, ahead_ms
from events.audit.sealer import Sealer, public_key
from events.audit.verify import verify_log
from events.log.archive.notes import SEALER, registered_holds
from events.log.errors import LogUnavailable
from events.log.lease import Lease, take_for
from events.notification.deliveries import RETRY_SECONDS_MAX, DeliveryProgress, is_due
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import api
from tests.audit.sealing import fill, settings_of
from tests.workers.system import System, base, deploy, fresh_system

pytestmark = pytest.mark.redis_server

DAY_MS = 24 * 3600 * 1000
NOW = 1_700_000_000_000
AHEAD = NOW + 30 * DAY_MS


@pytest.fixture
def system(shared_redis: EmbeddedRedis) -> Iterator[System]:
    with fresh_system(shared_redis, at=NOW) as system:
        yield system


def test_sealing_goes_on_after_a_clock_that_was_ahead_is_right_again(system: System, tmp_path: Path) -> None:
    clock = [NOW]
    settings = settings_of(system, tmp_path, seal_every_events=1_000_000, seal_every_seconds=30.0)
    sealer = Sealer(settings, system.log, clock=lambda: clock[0])
    seals = Seals(system.log.client)
    for number, time in enumerate((NOW, AHEAD, NOW + 60_000), 1):
        clock[0] = time
        fill(system, 1, prefix=f"at-{number}-")
        assert sealer.round(1) == 1
        assert seals.sealed_clock() == time
    # A sealer that takes over finds the seal's time ahead of its clock.
    another = Sealer(settings, system.log, clock=lambda: clock[0])
    fill(system, 1, prefix="last-")
    assert another.round(1) == 1
    # What is not due waits as ever, by the clock as it is now.
    fill(system, 1, prefix="next-")
    clock[0] += 29_000
    assert another.round(1) == 0
    clock[0] += 1_000
    assert another.round(1) == 1
    times = [signed.seal().at for _, _, signed in seals.all()]
    assert times == [NOW, AHEAD, AHEAD, AHEAD, AHEAD]
    report = verify_log(settings, system.log, [public_key(settings)])
    assert (report.is_fine, report.unsealed) == (True, ())
    assert ahead_ms(system.log, seals, clock=clock[0]) == AHEAD - clock[0]
    assert ahead_ms(system.log, seals, clock=AHEAD - 1000) == 0


def test_a_sealer_that_could_not_hold_entries_back_holds_them_in_the_next_round(system: System, tmp_path: Path) -> None:
    sealer = Sealer(settings_of(system, tmp_path), system.log, clock=lambda: NOW)
    client: Any = system.log.client
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(LogUnavailable):
            sealer.round(1)
    finally:
        client.config_set("maxmemory", 0)
    sealer.round(1)
    # Nothing is in this stream yet; what comes may not leave Redis before it is sealed.
    assert registered_holds(client, "p00:assignments") == {SEALER: 0}


def test_readiness_and_metrics_tell_how_far_the_clock_is_behind_the_log(shared_redis: EmbeddedRedis) -> None:
    later = 4_000_000_000_000
    with fresh_system(shared_redis, at=later) as system, api(system) as http:
        before = http.get("/readyz").json()
        assert before["clock"] == "ok"
        system.do(deploy("b", base("m")))
        answer = http.get("/readyz")
        assert answer.is_success
        assert "s behind the newest event or seal" in answer.json()["clock"]
        metrics = http.get("/metrics").text
    (line,) = [line for line in metrics.splitlines() if line.startswith("twinfold_clock_behind_log_seconds ")]
    assert float(line.split()[1]) > 1e6


def test_a_lease_that_was_taken_while_the_clock_was_ahead_does_not_outlive_its_time(system: System) -> None:
    client = system.log.client
    assert Lease(client, "kept", milliseconds=30 * DAY_MS).take() == 1
    assert Lease(client, "kept", milliseconds=3000).take() == 2
    assert 0 < client.pttl("{fleet}:lease:kept") <= 3000
    assert Lease(client, "kept", milliseconds=3000).take() is None
    client.set("taken", "another", px=30 * DAY_MS)
    assert take_for(client, "taken", "mine", 3000)
    assert not take_for(client, "taken", "mine", 3000)


@pytest.mark.parametrize(
    ("due_at", "expected"),
    [(0, True), (NOW, True), (NOW + 1, False), (NOW + round(1000 * RETRY_SECONDS_MAX), False), (AHEAD, True)],
)
def test_a_delivery_does_not_wait_for_a_time_that_no_pause_leads_to(due_at: int, *, expected: bool) -> None:
    assert is_due(DeliveryProgress(1, 1, (), due_at=due_at), NOW) is expected
