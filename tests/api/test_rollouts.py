"""Deployments with times, and rollouts, over real HTTP, with workers and a scheduler."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from events import RegisterDevice
from events.rollout.events import RecordedCounts
from services.api.http.path_names import ACTS, TALLIED
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import NDJSON, Guarded, api, guarded
from tests.servers import eventually
from tests.workers.system import System, answer, base, fresh_system

pytestmark = pytest.mark.redis_server

FAR = "2099-11-21T08:00:00"
SOON = {"phases": ["25%", {"percent": 100, "approval": True}]}


class Rolling:
    """A system with a scheduler, and what operators say to it."""

    def __init__(self, system: System, http: httpx.Client) -> None:
        self.system, self.http = system, http
        self._made = 0

    def create(self, **body: Any) -> str:
        """A deployment of its own, above all others."""
        self._made += 1
        name = f"new{self._made}"
        self.ask(
            "POST",
            f"/v1/deployments/{name}",
            content=self.content(name),
            targetCondition="*",
            priority=self._made,
            **body,
        )
        return name

    def content(self, name: str) -> Any:
        """Another one for each, as who runs the same already is no evidence."""
        return base("m", image=f"example.com/{name}:1")

    def get(self, path: str, **params: Any) -> Any:
        return self.http.get(path, params=params).raise_for_status().json()

    def ask(self, method: str, path: str, **body: Any) -> Any:
        found = self.http.request(method, path, json=body or None)
        assert found.is_success, found.text
        return found.json()

    def refused(self, method: str, path: str, status: int, *words: str, **body: Any) -> str:
        found = self.http.request(method, path, json=body or None)
        assert found.status_code == status, found.text
        error = found.json()["error"]
        for word in words:
            assert word in error["message"]
        code: str = error["code"]
        return code

    def rollout(self, name: str) -> Any:
        return self.ask("GET", f"/v1/deployments/{name}/rollout")

    def act(self, name: str, act: str, **body: Any) -> Any:
        return self.ask("POST", f"/v1/deployments/{name}/rollout/{act}", **body)

    def until(self, name: str, what: str, **members: Any) -> Any:
        """The rollout as soon as it shows these."""

        def shows() -> bool:
            found = self.rollout(name)
            return all(found[member] == value for member, value in members.items())

        eventually(shows, what=what, seconds_max=30)
        return self.rollout(name)

    def healthy(self) -> None:
        """Every device says that all is well with what it has."""
        self.system.settle()
        self.system.do(*(answer(self.system, f"d{number}", m="running") for number in range(8)))


@pytest.fixture(scope="module")
def rolling(shared_redis: EmbeddedRedis) -> Iterator[Rolling]:
    with (
        fresh_system(shared_redis) as system,
        system.process("-m", "workers.pool"),
        system.process("-m", "services.scheduler"),
        api(system) as http,
    ):
        system.do(*(RegisterDevice(f"d{number}") for number in range(8)))
        system.settle()
        yield Rolling(system, http)


# -- deployments with times


def test_a_deployment_with_a_time_targets_nobody_until_then_and_says_so(rolling: Rolling) -> None:
    name = rolling.create(schedule={"start": FAR, "end": "2099-11-22T07:00:00Z", "zone": "Europe/Berlin"})
    found = rolling.ask("GET", f"/v1/deployments/{name}")
    assert found["admission"] == "NotStarted"
    assert found["schedule"] == {
        "startAt": 4_098_927_600_000,
        "endAt": 4_099_014_000_000,
        "start": f"{FAR}+01:00",
        "end": "2099-11-22T08:00:00+01:00",
        "zone": "Europe/Berlin",
    }
    assert f"starts {FAR}+01:00 (Europe/Berlin), in " in found["says"]
    assert found["says"].endswith("until then it targets no device")
    rolling.system.settle()
    found = rolling.ask("GET", f"/v1/deployments/{name}")
    assert found["counts"]["target"] == 0
    (listed,) = (one for one in rolling.ask("GET", "/v1/deployments") if one["id"] == name)
    assert {member: found[member] for member in listed} == listed | {"says": found["says"]}


@pytest.mark.full
def test_a_start_is_moved_and_what_is_left_out_stays(rolling: Rolling) -> None:
    name = rolling.create(schedule={"start": FAR, "zone": "Europe/Berlin"})
    moved = rolling.ask("PUT", f"/v1/deployments/{name}/schedule", start="2099-12-01T08:00")
    assert moved["schedule"]["start"] == "2099-12-01T08:00:00+01:00"
    ends = rolling.ask("PUT", f"/v1/deployments/{name}/schedule", end="2099-12-24T00:00")["schedule"]
    assert (ends["start"], ends["end"]) == ("2099-12-01T08:00:00+01:00", "2099-12-24T00:00:00+01:00")
    gone = rolling.http.put(f"/v1/deployments/{name}/schedule", json={"start": None, "end": None}).json()
    assert (gone["schedule"]["start"], gone["admission"]) == (None, "NotStarted")
    assert "until an operator starts it" in gone["says"]


def test_a_deployment_starts_early_once_and_is_canceled(rolling: Rolling) -> None:
    name = rolling.create(schedule={"start": FAR})
    assert rolling.ask("POST", f"/v1/deployments/{name}/start")["admission"] == "Everyone"
    path = f"/v1/deployments/{name}"
    assert rolling.refused("POST", f"{path}/start", 409, "has started") == "ConfigurationStateConflict"
    assert rolling.refused("PUT", f"{path}/schedule", 409, "only its end", start="2099-01-01T00:00Z")
    rolling.ask("PUT", f"{path}/schedule", end="2099-12-31T00:00Z")
    ended = rolling.ask("POST", f"{path}/cancel")
    assert (ended["admission"], ended["says"]) == ("Ended", "has ended: it targets no device")
    rolling.refused("POST", f"{path}/start", 409, "has ended")
    rolling.refused("PUT", f"{path}/schedule", 409, "has ended", end="2100-01-01T00:00Z")


def test_a_deployment_starts_by_itself_when_its_time_has_come(rolling: Rolling) -> None:
    name = rolling.create(schedule={"start": "2020-01-01T00:00:00Z"})
    eventually(
        lambda: rolling.ask("GET", f"/v1/deployments/{name}")["admission"] == "Everyone", what="it started by itself"
    )


def test_a_deployment_can_be_held_until_somebody_starts_it(rolling: Rolling) -> None:
    name = rolling.create(hold=True)
    assert rolling.ask("GET", f"/v1/deployments/{name}")["admission"] == "NotStarted"
    rolling.ask("POST", f"/v1/deployments/{name}/start")
    both = rolling.create(hold=True, schedule={"start": FAR})
    assert "starts 2099" in rolling.ask("GET", f"/v1/deployments/{both}")["says"]


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ({"start": "tomorrow"}, ["schedule.start", "2026-11-21T08:00:00+01:00"]),
        ({"start": "2099-03-29T02:30", "zone": "Europe/Berlin"}, ["does not exist in Europe/Berlin"]),
        ({"start": FAR, "zone": "Europe/Atlantis"}, ["schedule.start", "time zone"]),
        (
            {"start": FAR, "end": "2099-01-01T00:00"},
            ["`schedule.end` must be after `schedule.start` (2099-11-21 08:00 UTC)"],
        ),
        ({"start": "1969-12-31T23:00Z"}, ["`schedule.start` ", "1970"]),
        ({"zone": "Mars"}, ["schedule.zone", "time zone"]),
    ],
)
def test_a_time_that_cannot_be_is_named_and_nothing_is_created(
    rolling: Rolling, times: dict[str, str], words: list[str]
) -> None:
    body = {"content": base("m"), "schedule": times}
    assert rolling.refused("POST", "/v1/deployments/never", 400, *words, **body) == "InvalidConfigurationSchedule"
    rolling.refused("GET", "/v1/deployments/never", 404)


# -- rollouts


def test_a_rollout_goes_through_its_phases_with_an_approval_and_tells_what_happened(rolling: Rolling) -> None:
    name = rolling.create(rollout=SOON)
    found = rolling.rollout(name)
    assert (found["state"], found["phase"], found["says"]) == ("created", 0, "waits to be started")
    assert [one["admits"] for one in found["phases"]] == ["25%", "100%"]
    assert [one["state"] for one in found["phases"]] == ["waiting", "waiting"]
    rolling.act(name, "start")
    found = rolling.until(name, "the first phase is open", phase=1)
    eventually(lambda: rolling.rollout(name)["counts"]["pending"] == 2, what="two devices of eight are admitted")
    found = rolling.rollout(name)
    assert found["phases"][0]["state"] == "open"
    assert "phase 1 of 2: 0 of 2 healthy" in found["says"]
    assert rolling.ask("GET", f"/v1/deployments/{name}")["admission"] == "Phased"
    rolling.healthy()
    eventually(lambda: "waits for approval" in rolling.rollout(name)["says"], what="the second phase wants approval")
    found = rolling.rollout(name)
    assert found["phases"][0]["state"] == "passed"
    assert found["phases"][0]["counts"]["healthy"] == 2
    (line,) = (one for one in rolling.ask("GET", "/v1/rollouts") if one["id"] == name)
    assert (line["state"], line["phase"], line["phases"], line["counts"]["healthy"]) == ("running", 1, 2, 2)
    assert rolling.act(name, "approve")["phases"][1]["approved"]
    eventually(lambda: rolling.rollout(name)["counts"]["admitted"] == 8, what="all are admitted")
    rolling.healthy()
    found = rolling.until(name, "it is completed", state="completed")
    acts = [line["act"] for line in found["history"]]
    phase = ["PhaseOpened", "DevicesAdmitted", "PhasePassed"]
    assert acts == [
        "RolloutCreated", "RolloutStarted", *phase, "PhaseApproved", *phase, "RolloutCompleted"
    ]  # fmt: skip
    assert [line["at"] for line in found["history"]] == sorted(line["at"] for line in found["history"])
    assert {line["by"] for line in found["history"]} == {"user:anybody", "system:scheduler"}
    assert found["history"][3]["count"] == 2
    assert found["evidence"]["act"] == "RolloutCompleted"
    assert found["evidence"]["counts"] == found["history"][-1]["counts"]
    assert len(found["evidence"]["asOf"]) == rolling.system.log.partitions
    assert len(rolling.get(f"/v1/deployments/{name}/rollout", history=1)["history"]) == 1
    assert "completed: 8 of 8 devices have it" in rolling.ask("GET", f"/v1/deployments/{name}")["says"]
    assert [one["state"] for one in found["phases"]] == ["passed", "passed"]
    assert rolling.ask("PUT", f"/v1/deployments/{rolling.create(hold=True)}/rollout", **found["plan"])


def test_the_acts_on_a_rollout_that_was_deleted_are_not_those_of_the_next_one_of_its_id(rolling: Rolling) -> None:
    name = rolling.create(rollout=SOON)
    assert [act["act"] for act in rolling.act(name, "start")["history"]][:2] == ["RolloutCreated", "RolloutStarted"]
    rolling.http.delete(f"/configurations/{name}", params={"api-version": "2021-04-12"}).raise_for_status()
    body = {"content": rolling.content(name), "targetCondition": "*"}
    assert rolling.ask("POST", f"/v1/deployments/{name}", **body, hold=True)
    rolling.refused("GET", f"/v1/deployments/{name}/rollout", 404)
    created = rolling.ask("PUT", f"/v1/deployments/{name}/rollout", **SOON)
    assert [act["act"] for act in created["history"]] == ["RolloutCreated"]


def test_the_answer_to_a_rollout_says_when_it_proceeds_when_it_stops_and_what_happens_then(rolling: Rolling) -> None:
    plan = {"phases": ["100%"], "failure": {"percent": 20, "count": 3, "then": "roll back"}}
    name = rolling.create(hold=True)
    text = rolling.ask("PUT", f"/v1/deployments/{name}/rollout", **plan)["planText"]
    assert "at least 80 % of the admitted devices are healthy" in text["proceeds"]
    assert "at least 20 % of the admitted devices and at least 3 devices failed" in text["stops"]
    assert "Then it rolls back" in text["then"]
    body = {"content": base("m"), "targetCondition": "", "rollout": plan}
    together = rolling.ask("POST", f"/v1/deployments/{name}-together", **body)
    assert together["planText"] == text
    assert rolling.rollout(name)["phases"][0]["gate"]["successPercent"] == 80
    assert rolling.rollout(name)["plan"]["phases"][0]["gate"]["successPercent"] is None


def test_each_count_is_the_size_of_its_list(rolling: Rolling) -> None:
    name = rolling.create(rollout={"phases": [50]})
    rolling.act(name, "start")
    eventually(lambda: rolling.rollout(name)["counts"]["admitted"] == 8, what="all are admitted")
    rolling.system.settle()
    rolling.system.do(answer(rolling.system, "d0", m="running"), answer(rolling.system, "d1", code=500, m="failed"))
    eventually(lambda: rolling.rollout(name)["counts"]["failed"] == 1, what="one has failed")
    counts = rolling.rollout(name)["counts"]
    assert (counts["healthy"], counts["failed"], counts["pending"]) == (1, 1, 6)
    assert set(counts) == set(TALLIED)
    assert len(TALLIED) == len(RecordedCounts.__struct_fields__)
    path = f"/v1/deployments/{name}/rollout/devices"
    lists = {which: rolling.ask("GET", f"{path}/{which}")["devices"] for which in TALLIED}
    assert {which: len(some) for which, some in lists.items()} == counts
    assert (lists["healthy"], lists["failed"]) == (["d0"], ["d1"])
    first = rolling.get(f"{path}/target", top=5)
    rest = rolling.get(f"{path}/target", top=5, continuation=first["continuation"])
    assert sorted(first["devices"] + rest["devices"]) == [f"d{number}" for number in range(8)]
    rolling.refused("GET", f"{path}/nonsense", 404, "timedOut")


def test_a_rollout_is_paused_resumed_skipped_aborted_and_the_reason_stands(rolling: Rolling) -> None:
    name = rolling.create(rollout=SOON)
    rolling.act(name, "start")
    rolling.until(name, "the first phase is open", phase=1)
    paused = rolling.act(name, "pause", reason="lunch")
    assert (paused["state"], paused["says"], paused["history"][-1]["reason"]) == ("paused", "paused: lunch", "lunch")
    path = f"/v1/deployments/{name}/rollout"
    assert rolling.refused("POST", f"{path}/pause", 409, "its rollout is paused") == "RolloutStateConflict"
    assert rolling.act(name, "resume")["state"] == "running"
    rolling.refused("POST", f"{path}/skip", 409, "phase 2 is not open", phase=2)
    assert rolling.act(name, "skip")["phases"][0]["state"] == "passed"
    aborted = rolling.act(name, "abort", reason="enough")
    assert (aborted["state"], aborted["reason"]) == ("aborted", "enough")
    rolling.refused("POST", f"{path}/start", 409, "aborted")
    rolling.refused("POST", f"{path}/explode", 404, *ACTS)
    rolling.refused("POST", f"{path}/pause", 400, "reason", reason="x" * 501)
    rolling.refused("POST", f"{path}/skip", 400, "phase", phase=0)


def test_a_rollout_is_rolled_back_by_hand(rolling: Rolling) -> None:
    beneath = rolling.create()
    name = rolling.create(rollout={"phases": ["100%"], "rollbackTo": beneath})
    rolling.act(name, "start")
    eventually(lambda: rolling.rollout(name)["counts"]["admitted"] == 8, what="all are admitted")
    asked = rolling.act(name, "rollback", reason="it hurts")
    assert asked["history"][-1]["act"] == "RollbackAsked"
    rolling.until(name, "the rollback began", rollback=f"{name}-rollback")
    assert rolling.ask("GET", f"/v1/deployments/{name}-rollback")["labels"] == {"twinfold.rollback-of": name}
    rolling.healthy()
    found = rolling.until(name, "all are back", state="rolled back")
    assert "8 of 8 are back" in found["says"]
    assert rolling.ask("GET", f"/v1/deployments/{name}")["admission"] == "Ended"


def devices_of(rolling: Rolling, name: str, **params: Any) -> list[Any]:
    """All pages of the devices of a rollout."""
    path, found = f"/v1/deployments/{name}/rollout/devices", []
    continuation: dict[str, Any] = {}
    while True:
        page = rolling.get(path, top=3, **params, **continuation)
        found += page["devices"]
        if page["continuation"] is None:
            return found
        continuation = {"continuation": page["continuation"]}


def test_after_a_rollback_each_device_tells_how_it_stood_why_and_what_it_runs(rolling: Rolling) -> None:
    beneath = rolling.create()
    plan = {"phases": ["100%"], "failure": {"count": 2, "then": "roll back"}}
    name = rolling.create(rollout=plan)
    rolling.act(name, "start")
    eventually(lambda: rolling.rollout(name)["counts"]["admitted"] == 8, what="all are admitted")
    rolling.system.settle()
    system = rolling.system
    system.do(answer(system, "d0", m="running"), answer(system, "d1", code=417, m="failed"))
    eventually(lambda: rolling.rollout(name)["counts"]["failed"] == 1, what="one has failed")
    (failed,) = devices_of(rolling, name, state="failed")
    assert (failed["deviceId"], failed["reason"]) == ("d1", "it answered 417")
    assert failed["runs"]["deployments"] == [name]
    system.do(answer(system, "d2", m="failed"))
    rolling.until(name, "it is rolled back", state="rolling back")
    rolling.healthy()
    found = rolling.until(name, "all are back", state="rolled back")
    assert found["says"] == (
        "rolled back to what else targets each device: 2 of 8 failed (25 %): the limit is 2 devices; 8 of 8 are back"
    )
    assert [one["state"] for one in found["phases"]] == ["rolled back"]
    assert (found["counts"]["healthy"], found["counts"]["failed"], found["counts"]["pending"]) == (1, 2, 5)
    assert found["failedBy"] == {"it answered 417": 1, "a module is not as desired": 1}
    listed = {one["deviceId"]: one for one in devices_of(rolling, name)}
    assert {one: listed[one]["state"] for one in ("d0", "d1", "d2", "d3")} == {
        "d0": "healthy",
        "d1": "failed",
        "d2": "failed",
        "d3": "pending",
    }
    assert {one["deviceId"]: one["reason"] for one in devices_of(rolling, name, state="failed")} == {
        "d1": "it answered 417",
        "d2": "a module is not as desired",
    }
    assert all(one["runs"]["deployments"] == [beneath] for one in listed.values())
    (line,) = (one for one in rolling.ask("GET", "/v1/rollouts") if one["id"] == name)
    assert line["counts"]["failed"] == 2
    assert len(listed) == 8
    wrong = rolling.http.get(f"/v1/deployments/{name}/rollout/devices", params={"state": "fine"})
    assert (wrong.status_code, "notApplied" in wrong.text) == (400, True)


@pytest.mark.full
def test_a_rollout_and_its_deployment_are_canceled_together(rolling: Rolling) -> None:
    for deployment in rolling.ask("GET", "/v1/deployments"):
        rolling.http.delete(f"/configurations/{deployment['id']}").raise_for_status()
    name = rolling.create(rollout=SOON, schedule={"start": FAR})
    assert "until then it targets no device" in rolling.ask("GET", f"/v1/deployments/{name}")["says"]
    rolling.refused("PUT", f"/v1/deployments/{name}/schedule", 400, "1970", start="1900-01-01T00:00Z")
    assert rolling.ask("POST", f"/v1/deployments/{name}/start")["rollout"] == "running"
    rolling.refused(
        "PUT", f"/v1/deployments/{name}/schedule", 409, "its rollout has started", start="2099-12-01T00:00Z"
    )
    eventually(lambda: rolling.rollout(name)["counts"]["admitted"] == 2, what="two devices of eight are admitted")
    rolling.system.settle()
    pending = {one["deviceId"] for one in devices_of(rolling, name, state="pending")}
    ended = rolling.ask("POST", f"/v1/deployments/{name}/cancel", reason="no more")
    assert (ended["admission"], ended["rollout"]) == ("Ended", "aborted")
    assert "ResultsRecorded" in [line["act"] for line in rolling.rollout(name)["history"]]
    rolling.system.settle()
    found = rolling.rollout(name)
    assert (found["reason"], found["counts"]["pending"]) == ("no more", 2)
    assert [one["state"] for one in found["phases"]] == ["aborted", "not opened"]
    text = "aborted: no more; its deployment has ended, and each device gets what else targets it, or keeps its configuration"
    (line,) = (one for one in rolling.ask("GET", "/v1/rollouts") if one["id"] == name)
    assert (found["says"], line["says"], line["counts"]["pending"]) == (text, text, 2)
    listed = devices_of(rolling, name, state="pending")
    assert {one["deviceId"] for one in listed} == pending
    assert [(device["runs"]["status"], device["runs"]["deployments"]) for device in listed] == 2 * [
        ("unmanaged", [name])
    ]


def test_one_that_has_started_is_not_rolled_out_and_one_is_not_rolled_out_twice(rolling: Rolling) -> None:
    name = rolling.create()
    rolling.refused("GET", f"/v1/deployments/{name}/rollout", 404, "has no rollout")
    code = rolling.refused("PUT", f"/v1/deployments/{name}/rollout", 409, "Everyone", **SOON)
    assert code == "RolloutStateConflict"
    name = rolling.create(rollout=SOON)
    again = rolling.refused("PUT", f"/v1/deployments/{name}/rollout", 409, "has a rollout", **SOON)
    assert again == "RolloutAlreadyExists"
    events = f'{{"command":"ChangeAdmission","deployment_id":"{name}","admission":{{"type":"Everyone"}}}}\n'
    (refused,) = rolling.http.post("/v1/events", content=events, headers=NDJSON).json()["refused"]
    assert "rolled out in phases" in refused["error"]


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"phases": []}, ["phases", "1 to 100"]),
        ({"phases": ["120%"]}, ["phases[0].percent", "at most 100"]),
        ({"phases": ["half"]}, ["rollout.phases[0]", "10%"]),
        ({"phases": ["10%"], "rollbackTo": "nowhere"}, ["`rollout.rollbackTo` ", "nowhere"]),
        ({"phases": ["10%"], "failure": {"then": "explode"}}, ["rollout.failure.then", "pause"]),
        ({"phases": [{"percent": 10, "gate": {"succesPercent": 95}}]}, ["succesPercent"]),
        ({"phases": [{"percent": 10, "gate": {"soakSeconds": "soon"}}]}, ["soakSeconds", "15m"]),
        ({"phases": ["10%"], "windows": [{"cron": "at night"}]}, ["windows[0]", "cron"]),
    ],
)
def test_of_a_deployment_with_a_wrong_plan_nothing_remains(
    rolling: Rolling, plan: dict[str, Any], words: list[str]
) -> None:
    heads = rolling.system.log.heads()
    code = rolling.refused("POST", "/v1/deployments/never", 400, *words, content=base("m"), rollout=plan)
    assert code in {"InvalidRolloutPlan", "ArgumentInvalid"}
    rolling.refused("GET", "/v1/deployments/never", 404)
    fleet = -1
    assert rolling.system.log.heads()[fleet] == heads[fleet]


def test_a_plan_says_seconds_as_numbers_or_as_durations_and_names_either_way(rolling: Rolling) -> None:
    gate = {"successPercent": 90, "soak_seconds": "30m", "device_timeout_seconds": 60, "phaseTimeoutSeconds": "2h"}
    name = rolling.create(
        rollout={"phases": [{"count": 3, "gate": gate}], "offlineSeconds": "1d", "offline": "exclude"}
    )
    plan = rolling.rollout(name)["plan"]
    shown = plan["phases"][0]["gate"]
    assert (shown["soakSeconds"], shown["deviceTimeoutSeconds"], shown["phaseTimeoutSeconds"]) == (1800, 60, 7200)
    assert (plan["offlineSeconds"], plan["offline"], plan["phases"][0]["count"]) == (86_400, "exclude", 3)


# -- scopes and permissions


@pytest.fixture(scope="module")
def guard(shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with (
        fresh_system(shared_redis) as system,
        system.process("-m", "workers.pool"),
        guarded(system, tmp_path_factory.mktemp("rollouts")) as serving,
    ):
        for name, site in (("n1", "north"), ("n2", "north"), ("s1", "south")):
            serving.register(name, capabilities={"iotEdge": True})
            serving.http.patch(f"/twins/{name}", json={"tags": {"site": site}}, headers=serving.policy())
        system.settle()
        yield serving


def test_whoever_is_scoped_rolls_out_their_own_and_sees_nothing_of_how_others_are(guard: Guarded) -> None:
    http, everybody = guard.http, guard.policy()
    north = guard.token("operate", scope="tags.site = 'north'")
    body = {"content": base("m"), "targetCondition": "*", "rollout": SOON}
    assert http.post("/v1/deployments/all", json=body, headers=everybody).status_code == 201
    assert http.post("/v1/deployments/mine", json={**body, "priority": 2}, headers=north).status_code == 201
    guard.system.settle()
    assert [one["id"] for one in http.get("/v1/rollouts", headers=north).json()] == ["mine"]
    assert {one["id"] for one in http.get("/v1/rollouts", headers=everybody).json()} == {"all", "mine"}
    assert http.post("/v1/deployments/mine/rollout/start", headers=north).json()["counts"]["target"] == 2
    path = "/v1/deployments/mine/rollout/devices/target"
    assert set(http.get(path, headers=north).json()["devices"]) == {"n1", "n2"}
    for method, rest in (("GET", ""), ("POST", "/start"), ("GET", "/devices/target"), ("PUT", "")):
        plan = SOON if method == "PUT" else None
        answer = http.request(method, f"/v1/deployments/all/rollout{rest}", headers=north, json=plan)
        assert answer.status_code == 404, answer.text
    for rest in ("start", "cancel"):
        assert http.post(f"/v1/deployments/all/{rest}", headers=north).status_code == 404
    assert http.get("/v1/deployments/mine", headers=north).json()["rolledOut"]["state"] == "running"
    wanted = {"content": base("m"), "rollout": {**SOON, "rollbackTo": "all"}}
    refused = http.post("/v1/deployments/other", json=wanted, headers=north)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "InvalidRolloutPlan")


def test_whoever_may_only_read_reads_rollouts_and_changes_none(guard: Guarded) -> None:
    reader = guard.token("read")
    body = {"content": base("m"), "rollout": SOON}
    guard.http.post("/v1/deployments/seen", json=body, headers=guard.policy())
    assert guard.http.get("/v1/deployments/seen/rollout", headers=reader).status_code == 200
    for method, path in (
        ("PUT", "/rollout"),
        ("POST", "/rollout/start"),
        ("POST", "/start"),
        ("POST", "/cancel"),
        ("PUT", "/schedule"),
    ):
        assert guard.http.request(method, f"/v1/deployments/seen{path}", headers=reader, json={}).status_code == 401
