"""Deliveries over real HTTP: in order, again until they are taken, and none lost whoever dies."""

import itertools
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from events import PatchTags
from events.log.failpoints import VARIABLE
from events.notification.positions import names_of
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.servers import eventually
from tests.shortening import shortened
from tests.webhook.receiver import Received, Receiver, receiver
from tests.webhook.serving import Notifying, notifying
from tests.workers.system import PARTITIONS, base, deploy, join
from workers.delivery_queue import QUEUE, enqueue

pytestmark = [pytest.mark.redis_server, pytest.mark.full]


@pytest.fixture
def serving(shared_redis: EmbeddedRedis, tmp_path: Path) -> Iterator[Notifying]:
    with notifying(shared_redis, tmp_path) as both:
        yield both


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as listening:
        yield listening


def streams(ids: list[str]) -> dict[str, list[int]]:
    """The positions that were told of, by stream, in their order."""
    found: dict[str, list[int]] = {}
    for one in ids:
        name, _, position = one.rpartition(":")
        found.setdefault(name, []).append(int(position))
    return found


def everything(serving: Notifying, after: dict[str, int]) -> dict[str, list[int]]:
    """All positions of all streams behind those where a webhook began."""
    names = names_of(PARTITIONS)
    pairs = zip(names, serving.feed.heads(), strict=True)
    found = {name: list(range(after.get(name, 0) + 1, head + 1)) for name, head in pairs}
    return {name: positions for name, positions in found.items() if positions}


def beginning(serving: Notifying) -> dict[str, int]:
    return dict(zip(names_of(PARTITIONS), serving.feed.heads(), strict=True))


def failures(serving: Notifying) -> int:
    return serving.http.get("/v1/webhooks/siem").json()["failures"]  # type: ignore[no-any-return]


def work(serving: Notifying, *names: str) -> None:
    for name in names:
        serving.system.do(*join(name, site="north"))


def test_a_receiver_is_told_of_everything_signed_and_once(serving: Notifying, hook: Receiver) -> None:
    work(serving, "before")
    start = beginning(serving)
    made = serving.define(url=hook.url + "?token=hidden")
    assert made["secret"].startswith("whsec_")
    assert made["url"] == hook.url + "?***"
    with serving.pool():
        work(serving, "a", "b", "c")
        serving.system.do(deploy("base", base("m"), "tags.site = 'north'"))
        serving.settle()
    assert streams(hook.ids()) == everything(serving, start)
    assert {one.path for one in hook.received} == {"/hook?token=hidden"}
    assert all(one.is_signed_with(made["secret"]) for one in hook.received)
    assert {one.headers["content-type"] for one in hook.received} == {"application/cloudevents+json"}
    kinds = {one.event["type"] for one in hook.received}
    assert {"twinfold.WebhookDefined", "twinfold.DeviceRegistered", "twinfold.AssignmentChange"} <= kinds
    created = next(one.event for one in hook.received if one.event["type"] == "twinfold.DeploymentCreated")
    assert (created["subject"], created["specversion"], created["by"]) == ("base", "1.0", "user:ada")
    assert created["source"] == "/twinfold/test/fleet"
    shown = serving.http.get("/v1/webhooks/siem").json()
    assert (shown["lag"], shown["failures"], shown["secret"]) == (0, 0, "***")
    told = serving.http.get("/v1/webhooks/siem/deliveries", params={"top": 1000}).json()["deliveries"]
    assert [one["event"] for one in reversed(told)] == hook.ids()
    metrics = serving.http.get("/metrics").text
    assert f'twinfold_webhook_deliveries_total{{result="2xx",webhook="siem"}} {len(told)}.0' in metrics
    assert 'twinfold_webhook_lag_events{webhook="siem"} 0.0' in metrics
    everywhere = (metrics, str(told), str(shown), serving.http.get("/v1/webhooks").text)
    assert not any("hidden" in text or made["secret"] in text for text in everywhere)
    kept = serving.system.log.client
    assert not any(b"hidden" in kept.dump(name) for name in kept.keys("*") if name != b"{fleet}:secrets")


def test_a_receiver_that_fails_is_tried_again_later_each_time_and_then_told_of_all_in_order(
    serving: Notifying, hook: Receiver
) -> None:
    start = beginning(serving)
    serving.define(url=hook.url)
    hook.answer = lambda _one: 500
    with serving.pool():
        work(serving, "a", "b")
        eventually(lambda: failures(serving) >= 4, what="it was tried again")
        assert len({one.id for one in hook.received}) == 1
        assert len({one.headers["webhook-id"] for one in hook.received}) == 1
        shown = serving.http.get("/v1/webhooks/siem").json()
        assert shown["failures"] >= 4
        assert shown["error"] == "5xx"
        assert shown["lag"] > 0
        hook.answer = lambda _one: 200
        serving.settle()
    attempts = serving.deliveries.newest("siem", limit=1000)
    times = [one.at for one in reversed(attempts) if one.result == "5xx"]
    waited = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(wait >= 50 * 2**number for number, wait in enumerate(waited))
    assert streams(hook.ids()) == everything(serving, start)
    assert serving.http.get("/v1/webhooks/siem").json()["failingSince"] is None


@pytest.mark.parametrize("point", shortened(["delivery_posted", "delivery_noted"]))
def test_a_worker_killed_around_a_delivery_loses_nothing_and_keeps_the_order(
    serving: Notifying, hook: Receiver, point: str
) -> None:
    start = beginning(serving)
    serving.define(url=hook.url, kinds=["DeviceRegistered", "TwinPatched"])
    work(serving, "a", "b", "c")
    with serving.system.process("-m", "workers", QUEUE, **serving.environment, **{VARIABLE: f"{point}:2"}) as worker:
        enqueue(serving.system.queue, "siem")
        assert waiting.exit_code(worker) == -signal.SIGKILL
    before = hook.ids()
    assert len(before) == 2
    with serving.pool():
        work(serving, "d")
        serving.settle()
    again = hook.ids()[2:]
    wanted = [one for one in everything(serving, start).items() if "assignments" not in one[0] and one[0] != "fleet"]
    repeated = before[-1:] if point == "delivery_posted" else []
    assert again[: len(repeated)] == repeated
    assert streams(before + again[len(repeated) :]) == dict(wanted)


def test_whoever_is_gone_is_paused_at_once_and_goes_on_when_resumed(serving: Notifying, hook: Receiver) -> None:
    start = beginning(serving)
    serving.define(url=hook.url, kinds=["DeviceRegistered"])
    hook.answer = lambda _one: 410
    with serving.pool():
        work(serving, "a")
        eventually(lambda: serving.http.get("/v1/webhooks/siem").json()["paused"], what="it is paused")
        assert len(hook.received) == 1
        assert 'twinfold_webhook_paused{webhook="siem"} 1.0' in serving.http.get("/metrics").text
        work(serving, "b")
        hook.answer = lambda _one: 200
        assert serving.http.post("/v1/webhooks/siem/resume").status_code == 204
        serving.settle()
    registered = {
        name: [1] for name in everything(serving, start) if name.startswith("p") and "assignments" not in name
    }
    assert sum(map(len, streams(hook.ids()).values())) == 2
    assert streams(hook.ids()).keys() <= registered.keys()


@pytest.mark.full
def test_a_webhook_that_fails_for_hours_is_paused_and_loses_nothing(
    shared_redis: EmbeddedRedis, tmp_path: Path, hook: Receiver
) -> None:
    soon = {"TWINFOLD_WEBHOOK_FAILING_HOURS_MAX": "0.00005"}
    with notifying(shared_redis, tmp_path, **soon) as serving:
        serving.define(url=hook.url, kinds=["DeviceRegistered"])
        hook.answer = lambda _one: 503
        with serving.pool():
            work(serving, "a")
            eventually(lambda: serving.http.get("/v1/webhooks/siem").json()["paused"], what="it is paused")
            assert "5xx" in serving.http.get("/v1/webhooks/siem").json()["paused"]
            hook.answer = lambda _one: 200
            serving.http.post("/v1/webhooks/siem/resume").raise_for_status()
            serving.settle()
        assert len(hook.taken) == 1


def test_a_pause_is_heeded_before_the_next_event(serving: Notifying, hook: Receiver) -> None:
    serving.define(url=hook.url, kinds=["TwinPatched"])
    work(serving, *"abcdef")

    def paused_at_the_second(_one: Received) -> int:
        if len(hook.received) == 1:
            serving.http.post("/v1/webhooks/siem/pause", json={"why": "enough"}).raise_for_status()
        return 200

    hook.answer = paused_at_the_second
    with serving.pool():
        eventually(lambda: serving.http.get("/v1/webhooks/siem").json()["paused"], what="it is paused")
        eventually(lambda: not serving.system.log.client.exists("{fleet}:webhook:siem:lease"), what="nobody is at it")
        assert len(hook.received) == 2
        serving.http.post("/v1/webhooks/siem/resume").raise_for_status()
        serving.settle()
    assert sorted(one.event["subject"] for one in hook.received) == list("abcdef")


def test_filters_choose_by_kind_deployment_and_device(serving: Notifying, hook: Receiver) -> None:
    serving.define("kind", url=hook.url + "/kind", kinds=["TwinPatched"])
    serving.define("deployment", url=hook.url + "/deployment", deployments=["base"])
    serving.define("device", url=hook.url + "/device", devices=["a"])
    with serving.pool():
        work(serving, "a", "b")
        serving.system.do(deploy("base", base("m"), "tags.site = 'north'"), deploy("other", base("m"), ""))
        serving.system.settle()
        serving.system.do(PatchTags("b", {"site": "south"}))
        for name in ("kind", "deployment", "device"):
            serving.settle(name)

    def delivered(name: str) -> list[tuple[str, str]]:
        found = (one.event for one in hook.received if one.path == f"/hook/{name}")
        return [(one["type"].removeprefix("twinfold."), one["subject"]) for one in found]

    assert {kind for kind, _ in delivered("kind")} == {"TwinPatched"}
    assert {subject for _, subject in delivered("kind")} == {"a", "b"}
    assert ("DeploymentCreated", "base") in delivered("deployment")
    assert ("DeploymentCreated", "other") not in delivered("deployment")
    assert {kind for kind, _ in delivered("deployment")} == {"DeploymentCreated", "AssignmentChange"}
    kinds = [kind for kind, _ in delivered("device")]
    assert kinds.count("AssignmentChange") == 1
    assert {subject for kind, subject in delivered("device") if kind != "AssignmentChange"} == {"a"}
    assignment_change: Any = next(
        one.event for one in hook.received if one.event["type"] == "twinfold.AssignmentChange"
    )
    assert assignment_change["data"]["moves"][0]["after"]["layers"] == ["base"]
    assert set(assignment_change["data"]["moves"][0]["devices"]) <= {"a", "b"}


@pytest.mark.full
def test_what_is_deleted_is_told_no_more_and_defined_again_begins_anew(serving: Notifying, hook: Receiver) -> None:
    serving.define(url=hook.url, kinds=["DeviceRegistered"])
    with serving.pool():
        work(serving, "a")
        serving.settle()
        assert serving.http.delete("/v1/webhooks/siem").status_code == 204
        eventually(lambda: serving.progress() is None, what="nothing is kept of it")
        work(serving, "b")
        serving.define(url=hook.url, kinds=["DeviceRegistered"])
        work(serving, "c")
        serving.settle()
    assert [one.event["subject"] for one in hook.received] == ["a", "c"]


def test_redirects_are_not_followed_and_a_slow_receiver_is_given_up_in_time(
    shared_redis: EmbeddedRedis, tmp_path: Path, hook: Receiver
) -> None:
    limit = waiting.seconds(0.3)
    short = {"TWINFOLD_WEBHOOK_TIMEOUT_SECONDS": str(limit)}
    with notifying(shared_redis, tmp_path, **short) as serving, receiver() as elsewhere:
        serving.define(url=hook.url)
        hook.headers = {"location": elsewhere.url}
        hook.answer = lambda _one: 307
        tested = serving.http.post("/v1/webhooks/siem/test").json()
        assert (tested["delivered"], tested["status"], tested["result"]) == (False, 307, "3xx")
        assert elsewhere.received == []
        hook.headers = {"content-length": "1000000000"}
        hook.answer = lambda _one: 200
        taken = serving.http.post("/v1/webhooks/siem/test").json()
        assert (taken["delivered"], taken["status"]) == (True, 200)
        never = threading.Event()
        hook.answer = lambda _one: 200 + never.wait(5 * limit)
        late = serving.http.post("/v1/webhooks/siem/test").json()
        assert (late["delivered"], late["status"], late["result"]) == (False, None, "timeout")
