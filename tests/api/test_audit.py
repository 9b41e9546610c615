"""History is searched, told in sentences, followed to its causes and taken away, by who may, and without a secret."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from events import PatchTags
from events.log.keys import partition_of
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import Guarded, guarded
from tests.servers import eventually
from tests.workers.system import PARTITIONS, base, fresh_system, join

pytestmark = pytest.mark.redis_server

PASSWORD = "hunter2-of-the-registry"


class AuditedFleet:
    """A guarded fleet with a history, and an auditor."""

    def __init__(self, serving: Guarded) -> None:
        self.serving, self.http = serving, serving.http
        self.owner, self.auditor = serving.policy(), serving.token("audit")
        content = base("m")
        agent = content["modulesContent"]["$edgeAgent"]["properties.desired"]
        agent["runtime"]["settings"]["registryCredentials"] = {
            "r": {"address": "example.com", "username": "u", "password": PASSWORD}
        }
        for name in ("edge-1", "edge-2"):
            serving.register(name, capabilities={"iotEdge": True})
            self.do("PATCH", f"/twins/{name}", json={"tags": {"site": "north"}})
        body = {"content": content, "targetCondition": "tags.site = 'north'", "priority": 1}
        self.do("PUT", "/configurations/prod", json=body)
        serving.system.settle()

    def do(self, method: str, path: str, **how: Any) -> None:
        answer = self.http.request(method, path, headers=self.owner, **how)
        assert answer.is_success, answer.text

    def ask(self, path: str, who: dict[str, str] | None = None, **params: Any) -> httpx.Response:
        return self.http.get(f"/v1/audit/{path}", params=params, headers=self.auditor if who is None else who)

    def events(self, **params: Any) -> list[dict[str, Any]]:
        answer = self.ask("events", **params)
        assert answer.is_success, answer.text
        events: list[dict[str, Any]] = answer.json()["events"]
        return events

    def location(self, kind: str, subject: str) -> tuple[str, int]:
        (event,) = [event for event in self.events(kind=kind, top=1000) if event["subject"] == subject]
        return event["stream"], event["position"]


@pytest.fixture(scope="module")
def audited(shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuditedFleet]:
    with (
        fresh_system(shared_redis) as system,
        system.process("-m", "workers.pool"),
        guarded(system, tmp_path_factory.mktemp("audit")) as serving,
    ):
        yield AuditedFleet(serving)


def test_history_is_found_by_whom_it_is_about_who_did_it_and_when(audited: AuditedFleet) -> None:
    assert {event["kind"] for event in audited.events(device="edge-1")} >= {
        "DeviceRegistered",
        "TwinPatched",
        "AssignmentChange",
        "SecretsRead",
    }
    assert {event["subject"] for event in audited.events(device="edge-1", kind="TwinPatched")} == {"edge-1"}
    assert {event["kind"] for event in audited.events(deployment="prod")} == {"DeploymentCreated", "AssignmentChange"}
    assert {event["by"] for event in audited.events(by="user:iothubowner")} == {"user:iothubowner"}
    assert audited.events(by="iothubowner") == audited.events(by="user:iothubowner")
    assert audited.events(by="user:unknown") == []
    (created,) = audited.events(kind="DeploymentCreated")
    assert audited.events(kind="DeploymentCreated", since=created["time"], until=created["time"]) == [created]
    assert audited.events(kind="DeploymentCreated", since=created["at"] + 1) == []
    assert audited.events(kind="DeploymentCreated", until=created["at"] - 1) == []
    assert {event["stream"] for event in audited.events(stream="fleet")} == {"fleet"}
    because = audited.events(cause=f"fleet:{created['position']}")
    assert {event["kind"] for event in because} == {"AssignmentChange"}


def test_pages_come_in_the_order_of_times_from_either_end_and_leave_nothing_out(audited: AuditedFleet) -> None:
    for order in ("oldest", "newest"):
        events, more = [], None
        while True:
            page = audited.ask("events", order=order, top=3, **({"continuation": more} if more else {})).json()
            assert len(page["events"]) <= 3
            events += page["events"]
            more = page["continuation"]
            if more is None:
                break
        locations = [(event["stream"], event["position"]) for event in events]
        heads = audited.serving.system.log.heads()
        assert len(set(locations)) == len(locations) >= sum(heads.values())
        times = [event["at"] for event in events]
        assert times == sorted(times, reverse=order == "newest")


def test_a_continuation_goes_with_its_search_alone(audited: AuditedFleet) -> None:
    more = audited.ask("events", top=1).json()["continuation"]
    assert audited.ask("events", top=1, by="ada", continuation=more).status_code == 400
    assert audited.ask("events", continuation="x").status_code == 400


def test_what_is_asked_for_wrongly_is_refused_by_name(audited: AuditedFleet) -> None:
    for params, element in (
        ({"kind": "Nothing"}, "kind"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2", "until": "1"}, "since"),
        ({"stream": "p99"}, "stream"),
    ):
        answer = audited.ask("events", **params)
        assert (answer.status_code, answer.json()["error"]["message"].partition(":")[0]) == (400, element)
    assert audited.ask("events/p99/1").status_code == 404
    assert audited.ask("events/fleet/999999").status_code == 404


def test_events_are_told_in_sentences(audited: AuditedFleet) -> None:
    (patched,) = audited.events(device="edge-1", kind="TwinPatched")
    assert patched["sentence"] == "user:iothubowner changed tags of edge-1: site"
    (created,) = audited.events(kind="DeploymentCreated")
    assert created["sentence"] == "user:iothubowner created deployment prod for tags.site = 'north', priority 1"
    assignment_change = audited.events(device="edge-2", kind="AssignmentChange")[0]
    assert assignment_change["sentence"].endswith("1 device was assigned anew: 1 from unmanaged to prod")


def test_an_event_leads_up_to_its_causes_and_down_to_what_followed(audited: AuditedFleet) -> None:
    stream, position = audited.location("DeploymentCreated", "prod")
    tree = audited.ask(f"events/{stream}/{position}/causes").json()
    assert tree["event"]["kind"] == "DeploymentCreated"
    assert tree["causes"] == []
    assert tree["effects"], "devices were assigned"
    for one in tree["effects"]:
        assignment_change = audited.ask(
            f"events/{one['location'].rpartition(':')[0]}/{one['location'].rpartition(':')[2]}/causes"
        ).json()
        assert f"{stream}:{position}" in [branch["location"] for branch in assignment_change["causes"]]
    patched = audited.location("TwinPatched", "edge-1")
    led = audited.ask(f"events/{patched[0]}/{patched[1]}/causes").json()["effects"]
    assert [one["location"].rpartition(":")[0] for one in led] == [f"{patched[0]}:assignments"]


def test_of_many_events_behind_an_assignment_change_those_of_whom_it_moved_are_its_causes(
    audited: AuditedFleet,
) -> None:
    system = audited.serving.system
    stays = [f"bystander-{number}" for number in range(400)]
    partition = partition_of("edge-2", PARTITIONS)
    same = [name for name in stays if partition_of(name, PARTITIONS) == partition][:30]
    # One batch, which workers apply at once: sixty events of others before the one that moves a device.
    system.do(*(command for name in same for command in join(name, site="far")), PatchTags("edge-2", {"site": "far"}))
    system.settle()
    assignment_change = audited.events(device="edge-2", kind="AssignmentChange")[0]
    tree = audited.ask(f"events/{assignment_change['stream']}/{assignment_change['position']}/causes").json()
    assert [cause["sentence"] for cause in tree["causes"]] == ["user:ada changed tags of edge-2: site"]
    system.do(PatchTags("edge-2", {"site": "north"}))
    system.settle()


def test_an_export_has_everything_once_and_goes_on_behind_any_line(audited: AuditedFleet) -> None:
    lines = [json.loads(line) for line in audited.ask("export").text.splitlines()]
    locations = [(line["stream"], line["position"]) for line in lines]
    assert len(set(locations)) == len(locations)
    assert len([location for location in locations if ":" not in location[0]]) == sum(
        audited.serving.system.log.heads().values()
    )
    for number in (0, len(lines) // 2, len(lines) - 1):
        stream, position = locations[number]
        remaining = audited.ask("export", after=f"{stream}:{position}").text.splitlines()
        assert [json.loads(line) for line in remaining] == lines[number + 1 :]
    assert audited.ask("export", after="p00:999999").status_code == 404
    assert audited.ask("export", after="anywhere").status_code == 400
    assert audited.ask("export", kind="Nothing").status_code == 400


def test_cloudevents_are_those_that_webhooks_get(audited: AuditedFleet) -> None:
    events = [
        json.loads(line) for line in audited.ask("export", format="cloudevents", stream="fleet").text.splitlines()
    ]
    assert {event["specversion"] for event in events} == {"1.0"}
    assert [event["id"] for event in events] == [f"fleet:{number}" for number in range(1, len(events) + 1)]


def test_csv_has_no_formula_that_a_spreadsheet_would_run(audited: AuditedFleet) -> None:
    audited.do("PUT", "/devices/=cmd()", json={"deviceId": "=cmd()"})
    audited.do("PATCH", "/twins/%3Dcmd()", json={"tags": {"=x": 'a,"b"\nc'}})
    rows = list(csv.DictReader(io.StringIO(audited.ask("export", format="csv", device="=cmd()").text)))
    assert {row["subject"] for row in rows} >= {"'=cmd()"}
    assert all(not (value or "").startswith(("=", "+", "-", "@")) for row in rows for value in row.values())
    (patched,) = [row for row in rows if row["kind"] == "TwinPatched"]
    assert json.loads(patched["data"])["tags"] == {"=x": 'a,"b"\nc'}


def test_history_is_for_auditors_and_admins_and_nobody_scoped(audited: AuditedFleet) -> None:
    serving = audited.serving
    assert audited.ask("events", serving.token("admin")).is_success
    for role in ("read", "operate"):
        for path in ("events", "events/fleet/1", "events/fleet/1/causes", "export", "fetches/edge-1"):
            assert audited.ask(path, serving.token(role)).status_code == 401
            assert audited.ask(path, serving.token(role, scope="*")).status_code == 401
    assert audited.ask("events", {}).status_code == 401
    # An auditor sees no keys, and changes nothing.
    assert audited.http.get("/devices/edge-1", headers=audited.auditor).status_code == 401
    assert audited.http.patch("/twins/edge-1", json={}, headers=audited.auditor).status_code == 401


def test_no_secret_is_in_any_answer(audited: AuditedFleet) -> None:
    key = audited.http.get("/devices/edge-1", headers=audited.owner).json()["authentication"]["symmetricKey"][
        "primaryKey"
    ]
    for path, params in (("events", {"top": 1000}), ("export", {}), ("export", {"format": "csv"})):
        text = audited.ask(path, **params).text
        assert PASSWORD not in text
        assert key not in text
        assert "$secret" not in text


def test_who_is_shown_keys_stands_in_history_before_they_are(audited: AuditedFleet) -> None:
    ada = audited.serving.token("operate")
    before = len(audited.events(kind="SecretsRead", by="user:caller-operate", top=1000))
    for path in ("/devices/edge-1", "/devices"):
        assert audited.http.get(path, headers=ada).is_success
    events = audited.events(kind="SecretsRead", by="user:caller-operate", top=1000)[: -before or None]
    assert [(event["data"]["what"], event["data"]["through"]) for event in events] == [
        ("keys", "GET /devices"),
        ("keys", "GET /devices/{device_id}"),
    ]
    assert events[1]["sentence"] == "user:caller-operate read keys of edge-1 by GET /devices/{device_id}"
    assert set(events[0]["data"]["subjects"]) >= {"edge-1", "edge-2"}
    # What has no secret in it is no such read.
    assert audited.http.get("/v1/devices/edge-1/effective", headers=ada).is_success
    assert len(audited.events(kind="SecretsRead", by="user:caller-operate", top=1000)) == before + 2


def test_a_devices_own_fetches_are_counted_and_no_events(audited: AuditedFleet) -> None:
    heads = audited.serving.system.log.heads()
    for _ in range(3):
        answer = audited.http.get("/v1/devices/edge-2/desired", headers=audited.serving.device("edge-2"))
        assert PASSWORD in answer.text
    assert audited.serving.system.log.heads() == heads
    eventually(lambda: list(audited.ask("fetches/edge-2").json()["days"].values()) == [3], what="the fetches are kept")
    metrics = audited.http.get("/metrics", headers=audited.owner).text
    assert "twinfold_secret_fetches_total 3.0" in metrics
    # Nobody seals here.
    (unsealed,) = [line for line in metrics.splitlines() if line.startswith("twinfold_unsealed_entries ")]
    assert float(unsealed.split()[1]) >= sum(heads.values())
