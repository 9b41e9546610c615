"""Readiness over real HTTP: findings as a deployment is created, the fleet's score, one device's report, and waivers."""

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from events import PatchTags, RegisterDevice, ReportProperties
from events.readiness.host_facts import SECTION
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import NDJSON, Guarded, api, guarded, served
from tests.projection_store.test_readiness import privileged
from tests.readiness.manifests import READY, manifest
from tests.workers.system import System, base, deploy, fresh_system, join

pytestmark = [pytest.mark.redis_server, pytest.mark.full]

PASSWORD = "hunter2-hunter2"
OPEN: dict[str, Any] = {"content": privileged("press"), "targetCondition": "*", "priority": 5}
WAIVER = {"rule": "privileged", "reason": "until the next release", "until": "2999-12-31"}


@pytest.fixture
def serving(shared_redis: EmbeddedRedis) -> Iterator[tuple[System, httpx.Client]]:
    with served(shared_redis) as both:
        yield both


@pytest.fixture
def closed(shared_redis: EmbeddedRedis, tmp_path: Any) -> Iterator[Guarded]:
    with (
        fresh_system(shared_redis) as system,
        system.process("-m", "workers.pool"),
        guarded(system, tmp_path) as serving,
    ):
        yield serving


def rules(found: list[dict[str, Any]]) -> set[str]:
    return {one["rule"] for one in found}


def line(http: httpx.Client, rule: str) -> dict[str, Any]:
    """A rule's line of the score; its counts are the sizes of its lists."""
    (found,) = (one for one in http.get("/v1/readiness").json()["rules"] if one["rule"] == rule)
    for which, count in (("found", found["devices"]), ("waived", found["waived"])):
        assert len(devices(http, rule, which=which)) == count
    result: dict[str, Any] = found
    return result


def devices(http: httpx.Client, rule: str, **params: Any) -> list[str]:
    found: list[str] = []
    token = None
    while True:
        more = {"continuation": token} if token else {}
        page = http.get(f"/v1/readiness/{rule}", params={"top": 2, **params, **more}).raise_for_status().json()
        found += page["devices"]
        token = page["continuation"]
        if token is None:
            return found


def test_creating_a_deployment_answers_with_what_the_rules_find_in_it(serving: tuple[System, httpx.Client]) -> None:
    _, http = serving
    created = http.post("/v1/deployments/open", json=OPEN).raise_for_status().json()["readiness"]
    assert created["profile"] == "production"
    (found,) = (one for one in created["findings"] if one["rule"] == "privileged")
    assert (found["severity"], found["module"], found["document"]) == ("warning", "press", "open")
    # A rule without a place in the score has no list.
    for rule in ("nonsense", "vol-unused", "firewall", "hub-ttl-long"):
        assert http.get(f"/v1/readiness/{rule}").status_code == 404, rule
    ready = http.post("/v1/deployments/ready", json={"content": READY, "targetCondition": "*"}).json()["readiness"]
    assert (ready["findings"], ready["waived"], ready["expired"], ready["unknownLabels"]) == ([], [], [], [])


def test_labels_name_the_profile_and_what_a_rule_weighs(serving: tuple[System, httpx.Client]) -> None:
    _, http = serving
    labels = {"readiness.profile": "development", "readiness.privileged": "error", "readiness.nonsense": "off"}
    created = http.post("/v1/deployments/open", json={**OPEN, "labels": labels}).json()["readiness"]
    (found,) = (one for one in created["findings"] if one["rule"] == "privileged")
    assert (created["profile"], found["severity"]) == ("development", "error")
    assert created["unknownLabels"] == ["readiness.nonsense"]


@pytest.mark.full
def test_the_setting_names_the_profile_where_no_label_does(shared_redis: EmbeddedRedis) -> None:
    with fresh_system(shared_redis) as system, api(system, TWINFOLD_READINESS_PROFILE="development") as http:
        created = http.post("/v1/deployments/open", json=OPEN).json()["readiness"]
        assert created["profile"] == http.get("/v1/readiness").json()["profile"] == "development"
        assert {one["severity"] for one in created["findings"] if one["rule"] == "privileged"} == {"info"}


def test_a_deployment_below_the_bar_is_kept_out_on_every_way_in(shared_redis: EmbeddedRedis) -> None:
    command = {
        "command": "CreateDeployment",
        "deployment_id": "open",
        "content": privileged("press"),
        "target_condition": "*",
    }
    with fresh_system(shared_redis) as system, api(system, TWINFOLD_READINESS_REFUSE="warning") as http:
        heads = system.log.heads()
        ours = http.post("/v1/deployments/open", json=OPEN)
        assert (ours.status_code, ours.json()["error"]["code"]) == (400, "InvalidConfigurationContent")
        assert "warning privileged at /content/modulesContent/$edgeAgent/properties.desired.modules.press" in ours.text
        hubs = http.put("/configurations/open", json={"id": "open", **OPEN})
        assert (hubs.status_code, hubs.headers["iothub-errorcode"]) == (400, "InvalidConfigurationContent")
        assert hubs.json()["Message"].startswith("ErrorCode:InvalidConfigurationContent;")
        assert "privileged" in hubs.json()["Message"]
        written = http.post("/v1/events", content=msgspec.json.encode(command), headers=NDJSON).json()
        assert written["written"] == 0
        assert "privileged" in written["refused"][0]["error"]
        assert system.log.heads() == heads
        http.post("/v1/deployments/ready", json={"content": READY}).raise_for_status()


@pytest.mark.full
def test_waived_findings_let_a_deployment_in(shared_redis: EmbeddedRedis) -> None:
    content = manifest(("agent/modules/temp/settings/image", "registry.example.com/temp:latest"))
    body = {"content": content, "targetCondition": "*"}
    with fresh_system(shared_redis) as system, api(system, TWINFOLD_READINESS_REFUSE="warning") as http:
        refused = http.post("/v1/deployments/line", json=body)
        assert refused.status_code == 400
        assert "tag-latest" in refused.text
        http.put("/v1/waivers/other", json={**WAIVER, "rule": "tag-latest", "deployment": "other"}).raise_for_status()
        http.put("/v1/waivers/over", json={**WAIVER, "rule": "tag-latest", "until": "2020-01-01"}).raise_for_status()
        assert http.post("/v1/deployments/line", json=body).status_code == 400
        http.put("/v1/waivers/line", json={**WAIVER, "rule": "tag-latest", "deployment": "line"}).raise_for_status()
        created = http.post("/v1/deployments/line", json=body).raise_for_status().json()["readiness"]
        assert [(one["finding"]["rule"], one["waiver"]["id"]) for one in created["waived"]] == [("tag-latest", "line")]
        assert [one["id"] for one in created["expired"]] == ["over"]


@pytest.mark.full
def test_an_error_alone_is_refused_where_the_setting_says_so(shared_redis: EmbeddedRedis) -> None:
    with fresh_system(shared_redis) as system, api(system, TWINFOLD_READINESS_REFUSE="error") as http:
        http.post("/v1/deployments/open", json=OPEN).raise_for_status()
        refused = http.post("/v1/deployments/more", json={**OPEN, "labels": {"readiness.privileged": "error"}})
        assert (refused.status_code, "error privileged" in refused.text) == (400, True)


def test_the_score_follows_what_devices_run_and_each_count_is_that_of_its_list(
    serving: tuple[System, httpx.Client],
) -> None:
    system, http = serving
    for number in range(4):
        system.do(*join(f"d{number}", n=number))
    system.do(RegisterDevice("idle"), deploy("base", base("m"), "tags.n >= 0", 1))
    http.post("/v1/deployments/open", json={**OPEN, "targetCondition": "tags.n >= 1"}).raise_for_status()
    system.settle()
    score = http.get("/v1/readiness").json()
    assert (score["profile"], score["devices"]) == ("production", 5)
    ranks = [("error", "warning", "info").index(one["severity"]) for one in score["rules"]]
    assert ranks == sorted(ranks)
    assert "vol-unused" not in rules(score["rules"])
    assert (line(http, "privileged")["devices"], line(http, "privileged")["share"]) == (3, 0.6)
    assert sorted(devices(http, "privileged")) == ["d1", "d2", "d3"]
    assert line(http, "ea-missing")["devices"] == 0
    system.do(PatchTags("d0", {"n": 2}))
    http.delete("/devices/d1", headers={"If-Match": "*"}).raise_for_status()
    system.settle()
    assert sorted(devices(http, "privileged")) == ["d0", "d2", "d3"]
    http.put("/v1/waivers/all", json={**WAIVER, "deployment": "open"}).raise_for_status()
    assert (line(http, "privileged")["devices"], line(http, "privileged")["waived"]) == (0, 3)
    http.delete("/v1/waivers/all").raise_for_status()
    assert line(http, "privileged")["devices"] == 3


def test_one_device_shows_what_it_runs_what_it_reports_and_who_wrote_it(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(
        *join("d"),
        RegisterDevice("idle"),
        deploy("base", base("m"), "*", 1),
        deploy("open", privileged("press"), "*", 5),
    )
    host = {"engine": {"name": "docker", "version": "1"}, "unusedVolumes": ["old"]}
    system.do(ReportProperties("d", {SECTION: host}), ReportProperties("idle", {SECTION: {"unusedVolumes": "all"}}))
    system.settle()
    http.put("/v1/waivers/p", json={**WAIVER, "module": "press"}).raise_for_status()
    http.put("/v1/waivers/old", json={**WAIVER, "rule": "log-config", "until": "2020-01-01"}).raise_for_status()
    found = http.get("/v1/devices/d/readiness").json()
    by_rule = {(one["rule"], one["module"]): one["document"] for one in found["findings"]}
    assert by_rule["log-config", "press"] == "open"
    assert by_rule["log-config", "m"] == by_rule["registry-credentials-missing", "$edgeAgent"] == "base"
    assert by_rule["dev-engine-moby", ""] == by_rule["vol-unused", ""] == "d"
    assert [(one["finding"]["rule"], one["waiver"]["who"]) for one in found["waived"]] == [
        ("privileged", "user:anybody")
    ]
    assert [(one["id"], one["expired"]) for one in found["expired"]] == [("old", True)]
    # The score and the report say the same of what it runs.
    about = {one["rule"] for one in http.get("/v1/readiness").json()["rules"] if one["devices"] or one["waived"]}
    host_rules = {"dev-engine-moby", "vol-unused", "dev-dns"}
    assert about == (rules(found["findings"]) | {"privileged"}) - host_rules
    idle = http.get("/v1/devices/idle/readiness").json()["findings"]
    assert rules(idle) >= {"host-facts-unreadable"}
    assert http.get("/v1/devices/nobody/readiness").status_code == 404


def test_no_answer_and_nothing_kept_holds_a_password(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    content = manifest(
        ("agent/modules/temp/env/DB_PASSWORD/value", PASSWORD),
        ("agent/runtime/settings/registryCredentials/own/password", PASSWORD),
        ("agent/modules/temp/settings/image", "registry.example.com/temp:latest"),
    )
    system.do(*join("d"))
    created = http.post("/v1/deployments/one", json={"content": content, "targetCondition": "*"}).raise_for_status()
    system.settle()
    # The password is in the vault, and no finding says that it stands in plain.
    assert "registry-password-clear" not in rules(created.json()["readiness"]["findings"])
    told = [http.get(path).text for path in ("/v1/readiness", "/v1/devices/d/readiness")]
    assert PASSWORD not in created.text + "".join(told)
    hashes = [system.projections.load(number).hashes["readiness"] for number in range(system.log.partitions)]
    assert any(hashes)
    assert PASSWORD not in str(hashes)


def test_waivers_are_granted_changed_listed_and_withdrawn(closed: Guarded) -> None:
    http, ada, reader = closed.http, closed.token("operate"), closed.token("read")
    granted = http.put("/v1/waivers/press", json=WAIVER, headers=ada).raise_for_status().json()
    assert granted == {
        "id": "press",
        **WAIVER,
        "module": None,
        "deployment": None,
        "who": "user:caller-operate",
        "grantedAt": granted["grantedAt"],
        "expired": False,
    }
    changed = {**WAIVER, "module": "driver", "until": "2020-02-29"}
    http.put("/v1/waivers/press", json=changed, headers=ada).raise_for_status()
    (listed,) = http.get("/v1/waivers", headers=reader).json()
    assert (listed["module"], listed["expired"]) == ("driver", True)
    assert http.get("/v1/waivers/press", headers=reader).json() == listed
    assert http.delete("/v1/waivers/press", headers=reader).status_code == 401
    assert http.put("/v1/waivers/press", json=WAIVER, headers=reader).status_code == 401
    http.delete("/v1/waivers/press", headers=ada).raise_for_status()
    for answer in (http.get("/v1/waivers/press", headers=ada), http.delete("/v1/waivers/press", headers=ada)):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "WaiverNotFound")
    assert http.get("/v1/waivers", headers=ada).json() == []


def test_whoever_is_scoped_sees_their_devices_and_no_waivers_but_those_of_their_findings(closed: Guarded) -> None:
    http, system = closed.http, closed.system
    system.do(*join("n", site="north"), *join("s", site="south"), deploy("open", base("m"), "*", 1))
    system.settle()
    everybody, north = closed.policy(), closed.token("operate", scope="tags.site = 'north'")
    http.put("/v1/waivers/old", json={**WAIVER, "until": "2020-01-01"}, headers=everybody).raise_for_status()
    http.put("/v1/waivers/cpu", json={**WAIVER, "rule": "res-cpu"}, headers=everybody).raise_for_status()
    for who, names in ((everybody, {"n", "s"}), (north, {"n"})):
        score = http.get("/v1/readiness", headers=who).json()
        counts = {one["rule"]: (one["devices"], one["waived"], one["share"]) for one in score["rules"]}
        assert counts["log-config"] == (len(names), 0, 1.0)
        assert counts["res-cpu"] == (0, len(names), 0.0)
        assert set(http.get("/v1/readiness/log-config", headers=who).json()["devices"]) == names
        assert [one["id"] for one in score["expired"]] == (["old"] if who is everybody else [])
    assert http.get("/v1/devices/s/readiness", headers=north).status_code == 404
    report = http.get("/v1/devices/n/readiness", headers=north).json()
    assert ({one["waiver"]["id"] for one in report["waived"]}, report["expired"]) == ({"cpu"}, [])
    for method in ("GET", "PUT", "DELETE"):
        assert http.request(method, "/v1/waivers/cpu", headers=north).status_code == 401
    line = msgspec.json.encode({"command": "WithdrawWaiver", "waiver_id": "cpu"})
    written = http.post("/v1/events", content=line, headers={**north, **NDJSON}).json()
    assert (written["written"], len(written["refused"])) == (0, 1)


def test_waivers_come_as_events_too_and_those_that_cannot_be_one_are_refused(
    serving: tuple[System, httpx.Client],
) -> None:
    system, http = serving
    heads = system.log.heads()
    for change in (
        {"rule": "nonsense"},
        {"reason": ""},
        {"until": "soon"},
        {"until": "2027-02-30"},
        {"until": 5},
        {"module": ""},
    ):
        refused = http.put("/v1/waivers/press", json={**WAIVER, **change})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "ArgumentInvalid"), change
    assert system.log.heads() == heads
    line = msgspec.json.encode({"command": "GrantWaiver", "waiver_id": "press", **WAIVER})
    assert http.post("/v1/events", content=line, headers=NDJSON).json() == {"written": 1, "refused": []}
    assert [one["until"] for one in http.get("/v1/waivers").json()] == [WAIVER["until"]]
