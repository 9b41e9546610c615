"""A member that nothing knows is refused in every body under `/v1`, with the name that was meant."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from services.embedded_redis import EmbeddedRedis
from tests.api.serving import NDJSON, served, written
from tests.api.test_description import Operation, operations, resolved
from tests.workers.system import System, base, join

pytestmark = pytest.mark.redis_server

NONSENSE = "zzUnknown"
LINES = {"/v1/events", "/v1/preview"}
"""Whose bodies are lines of commands."""


@pytest.fixture(scope="module")
def serving(shared_redis: EmbeddedRedis) -> Iterator[tuple[System, httpx.Client]]:
    with served(shared_redis) as both:
        both[0].do(*join("d"))
        yield both


@pytest.fixture(scope="module")
def description(serving: tuple[System, httpx.Client]) -> dict[str, Any]:
    _, http = serving
    found: dict[str, Any] = http.get("/openapi.json").raise_for_status().json()
    return found


def writes(description: dict[str, Any]) -> list[Operation]:
    return [one for one in operations(description) if one.path.startswith("/v1/") and one.method != "get"]


def example_of(one: Operation, description: dict[str, Any]) -> Any:
    content = one.said.get("requestBody", {}).get("content", {})
    if "application/json" not in content:
        return {}
    schema = content["application/json"]["schema"]
    return resolved(schema, description)["examples"][0]


def objects_of(schema: dict[str, Any], description: dict[str, Any], seen: set[str]) -> Iterator[tuple[str, Any]]:
    """Each object with named members in a schema, by its name."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name in seen:
            return
        seen.add(name)
        schema = description["components"]["schemas"][name]
        if "properties" in schema:
            yield name, schema
    for inner in (
        *schema.get("properties", {}).values(),
        *schema.get("anyOf", ()),
        *schema.get("allOf", ()),
        *([schema["items"]] if isinstance(schema.get("items"), dict) else ()),
    ):
        yield from objects_of(inner, description, seen)


def test_every_body_under_v1_refuses_a_member_that_it_does_not_know(
    serving: tuple[System, httpx.Client], description: dict[str, Any]
) -> None:
    system, http = serving
    before, seen = written(system), 0
    for one in writes(description):
        path = one.path
        for parameter in one.said.get("parameters", []):
            path = path.replace(f"{{{parameter['name']}}}", "d")
        if one.path in LINES:
            line = {"command": "PatchTags", "device_id": "d", "tags": {}, NONSENSE: 1}
            answer = http.request(one.method, path, content=json.dumps(line), headers=NDJSON)
        else:
            answer = http.request(one.method, path, json={**example_of(one, description), NONSENSE: 1})
        assert NONSENSE in answer.text, (one.method, one.path, answer.status_code, answer.text)
        assert answer.status_code == (200 if one.path == "/v1/events" else 400), (one.method, one.path, answer.text)
        seen += 1
    assert seen > 25
    assert written(system) == before


def test_no_object_inside_a_body_under_v1_lets_unknown_members_pass(description: dict[str, Any]) -> None:
    seen: set[str] = set()
    for one in writes(description):
        for content in one.said.get("requestBody", {}).get("content", {}).values():
            for name, schema in objects_of(content["schema"], description, seen):
                assert schema.get("additionalProperties") is False, (one.path, name)
    assert {"CreateBody", "ScheduleBody", "RolloutPlanBody", "GateBody", "PolicyBody", "WindowBody"} <= seen


@pytest.mark.parametrize(
    ("member", "meant"),
    [("condition", "targetCondition"), ("priorty", "priority"), ("Labels", "labels"), ("target_conditions", "target")],
)
def test_a_mistyped_member_of_a_deployment_is_named_with_the_one_that_was_meant(
    serving: tuple[System, httpx.Client], member: str, meant: str
) -> None:
    _, http = serving
    answer = http.post("/v1/deployments/typo", json={"content": base("m"), member: "tags.site = 'north'"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "ArgumentInvalid")
    assert repr(member) in answer.json()["error"]["message"]
    assert f"did you mean '{meant}" in answer.json()["error"]["message"]
    assert http.get("/v1/deployments/typo").status_code == 404


def test_a_member_is_named_with_its_path_in_the_body(serving: tuple[System, httpx.Client]) -> None:
    _, http = serving
    plan = {"phases": ["10%", {"percent": 100, "gate": {"soakSecond": 60}}]}
    answer = http.put("/v1/deployments/none/rollout", json=plan)
    assert "phases[1].gate: unknown member 'soakSecond'; did you mean 'soakSeconds'?" in answer.text
    answer = http.post("/v1/deployments/none", json={"content": base("m"), "schedule": {"ends": "2099-01-01"}})
    assert "schedule: unknown member 'ends'; did you mean 'end'?" in answer.text


def test_a_member_that_is_like_none_is_refused_with_all_that_there_are(serving: tuple[System, httpx.Client]) -> None:
    _, http = serving
    answer = http.post("/v1/deployments/none/cancel", json={"why": "x"})
    assert "unknown member 'why'; allowed are reason, phase" in answer.text
    answer = http.post("/v1/deployments/none/start", json={"reason": "x"})
    assert answer.status_code == 400
    assert "unknown member 'reason'" in answer.text
    assert http.post("/v1/deployments/none/start", json={}).status_code == 404


def test_members_of_commands_are_known_however_deep_they_stand(serving: tuple[System, httpx.Client]) -> None:
    _, http = serving
    lines = [
        {"command": "PatchTags", "device_id": "d", "tag": {}},
        {"command": "CreateRollout", "deployment_id": "a", "plan": {"phases": [{"percent": 1, "gates": {}}]}},
        {"command": "ChangeAdmission", "deployment_id": "a", "admission": {"type": "Everyone", "ids": []}},
        {"command": "ScheduleDeployment", "deployment_id": "a", "schedule": {"start": 1}},
        {"command": "PatchTag", "device_id": "d", "tags": {}},
    ]
    result = http.post("/v1/events", content="\n".join(map(json.dumps, lines)), headers=NDJSON).json()
    errors = [one["error"] for one in result["refused"]]
    assert "unknown member 'tag'; did you mean 'tags'?" in errors[0]
    assert "plan.phases[0]: unknown member 'gates'; did you mean 'gate'?" in errors[1]
    assert "admission: unknown member 'ids'" in errors[2]
    assert "schedule: unknown member 'start'; did you mean 'start_at'?" in errors[3]
    assert "did you mean 'PatchTags'?" in errors[4]


def test_the_paths_of_the_hub_let_unknown_members_pass(serving: tuple[System, httpx.Client]) -> None:
    _, http = serving
    assert http.put("/devices/lax", json={"deviceId": "lax", NONSENSE: 1}).is_success
    assert http.patch("/twins/lax", json={"tags": {"a": 1}, NONSENSE: 1}).json()["tags"] == {"a": 1}


@pytest.mark.parametrize(
    ("method", "path", "text", "name"),
    [
        ("POST", "/v1/deployments/twice", '{"content": {}, "priority": 1, "priority": 2}', "priority"),
        ("PUT", "/v1/groups/twice", '{"condition": "*", "condition": ""}', "condition"),
        ("POST", "/v1/devices/d/reports", '{"patch": {"a": {"b": 1, "b": 2}}}', "b"),
    ],
)
def test_a_member_that_is_given_twice_is_refused_by_name(
    serving: tuple[System, httpx.Client], method: str, path: str, text: str, name: str
) -> None:
    system, http = serving
    before = written(system)
    answer = http.request(method, path, content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert f"the member '{name}' is given twice" in answer.text
    assert written(system) == before


def test_a_command_with_a_member_twice_is_refused_and_those_beside_it_are_not(
    serving: tuple[System, httpx.Client],
) -> None:
    _, http = serving
    lines = [
        '{"command": "PatchTags", "device_id": "d", "tags": {"a": 1, "a": 2}}',
        '{"command": "PatchTags", "device_id": "d", "tags": {"b": 1}}',
    ]
    report = http.post("/v1/events", content="\n".join(lines), headers=NDJSON).raise_for_status().json()
    assert report["written"] == 1
    assert "the member 'a' is given twice" in report["refused"][0]["error"]
