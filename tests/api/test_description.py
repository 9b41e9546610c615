"""The description of the API is right: its examples run, and answers are what it says they are."""

import base64
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import pytest
from jsonschema import Draft202012Validator

from events import CreateDeployment
from events.deployment.events import NotStarted
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import served
from tests.workers.system import System, base

pytestmark = [pytest.mark.redis_server, pytest.mark.full]

METHODS = ("put", "post", "patch", "get", "delete")
"""In an order in which what an example needs is there."""
STREAM = "text/event-stream"
ELSEWHERE = {
    # What only a stopped partition answers: tests/api/test_blocked.py holds it against the description.
    "/v1/blocked/{location}",
    # What only a connected device answers, and none can be: tests/clients/test_other_clients.py calls them.
    "/twins/{device_id}/methods",
    "/twins/{device_id}/modules/{module_id}/methods",
}


class Operation(NamedTuple):
    """One entry of the description."""

    method: str
    path: str
    said: dict[str, Any]


@pytest.fixture(scope="module")
def serving(shared_redis: EmbeddedRedis) -> Iterator[tuple[System, httpx.Client]]:
    with served(shared_redis) as both:
        # What examples refer to that have not started.
        both[0].do(*(CreateDeployment(name, base("m"), "*", admission=NotStarted()) for name in ("held", "phased")))
        yield both


@pytest.fixture(scope="module")
def description(serving: tuple[System, httpx.Client]) -> dict[str, Any]:
    _, http = serving
    found: dict[str, Any] = http.get("/openapi.json").raise_for_status().json()
    return found


def operations(description: dict[str, Any]) -> list[Operation]:
    found = [
        Operation(method, path, said) for path, item in description["paths"].items() for method, said in item.items()
    ]
    # Devices before what refers to them; what is deleted goes the other way round.
    return sorted(
        found,
        key=lambda one: (
            METHODS.index(one.method),
            (-1 if one.method == "delete" else 1) * one.path.count("/"),
            one.path.startswith("/v1"),
        ),
    )


def run_example(http: httpx.Client, one: Operation, description: dict[str, Any], **more: str) -> httpx.Response:
    """Send what the description gives as the example, and `more` as the query."""
    path, headers, query = one.path, dict[str, str](), dict[str, Any](more)
    for parameter in one.said.get("parameters", []):
        examples = parameter.get("examples") or parameter["schema"].get("examples") or [parameter.get("example")]
        example = examples[0] if isinstance(examples, list) else None
        if parameter["in"] == "path":
            assert example is not None, (one.path, parameter["name"])
            path = path.replace(f"{{{parameter['name']}}}", quote(str(example), safe=""))
        elif example is not None:
            (headers if parameter["in"] == "header" else query)[parameter["name"]] = example
    content: dict[str, Any] = one.said.get("requestBody", {}).get("content", {})
    if not content:
        return http.request(one.method, path, headers=headers, params=query)
    ((media, body),) = content.items()
    if media == "application/json":
        (example,) = resolved(body["schema"], description)["examples"]
        return http.request(one.method, path, headers=headers, params=query, json=example)
    headers["content-type"] = media
    return http.request(one.method, path, headers=headers, params=query, content=body["example"])


def resolved(schema: dict[str, Any], description: dict[str, Any]) -> dict[str, Any]:
    name = schema["$ref"].rpartition("/")[2] if "$ref" in schema else ""
    found: dict[str, Any] = description["components"]["schemas"][name] if name else schema
    return found


def check(answer: httpx.Response, one: Operation, description: dict[str, Any]) -> None:
    """Hold an answer against what is said of its status."""
    said = one.said["responses"][str(answer.status_code)]
    if STREAM in said.get("content", {}):
        assert answer.headers["content-type"].startswith(STREAM)
        return
    media = answer.headers.get("content-type", "").partition(";")[0]
    if answer.is_success and media in {"application/x-ndjson", "text/csv"}:
        assert media in said["content"], (one.method, one.path, media)
        return
    content = said.get("content", {}).get("application/json")
    if content is None or not content.get("schema"):
        assert answer.status_code == 204 or answer.content == b"", (one.method, one.path, "is not described")
        return
    schema = {**content["schema"], "components": description["components"]}
    Draft202012Validator(schema).validate(answer.json())


def test_every_example_runs_and_its_answer_is_as_described(
    serving: tuple[System, httpx.Client], description: dict[str, Any]
) -> None:
    system, http = serving
    seen = set()
    for one in operations(description):
        if one.path in ELSEWHERE:
            continue
        answer = run_example(http, one, description)
        assert answer.is_success, (one.method, one.path, answer.text)
        check(answer, one, description)
        seen.add((one.method, one.path))
        if one.method != "get":
            system.settle()
    assert len(seen) > 30


def test_refusals_are_as_described(serving: tuple[System, httpx.Client], description: dict[str, Any]) -> None:
    _, http = serving
    statuses = set()
    for one in operations(description):
        path = one.path
        for parameter in one.said.get("parameters", []):
            path = path.replace(f"{{{parameter['name']}}}", "not%20there")
        # What would be followed for ever is asked for wrongly.
        query = {"kind": "not there"} if STREAM in one.said["responses"].get("200", {}).get("content", {}) else {}
        headers = {"content-type": "application/json"}
        answer = http.request(one.method, path, content=b"{", headers=headers, params=query)
        statuses.add(answer.status_code)
        assert answer.status_code < 500, (one.method, one.path, answer.text)
        check(answer, one, description)
    assert {400, 404} <= statuses


def test_what_the_framework_refuses_is_refused_in_our_words(serving: tuple[System, httpx.Client]) -> None:
    _, http = serving
    nowhere = http.get("/v1/nowhere")
    assert (nowhere.status_code, nowhere.json()["error"]["code"]) == (404, "NotFound")
    wrong = http.post("/twins/edge-1")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, PATCH, PUT")
    assert wrong.headers["iothub-errorcode"] == "MethodNotAllowed"
    odd = http.put("/devices/d", content=b"\xff", headers={"content-type": "application/json"})
    assert (odd.status_code, odd.headers["iothub-errorcode"]) == (400, "ArgumentInvalid")
    assert http.get("/v1/devices/d/assignments", params={"after": 2**64}).status_code == 400
    token = base64.urlsafe_b64encode(b"99999:-7").decode()
    assert http.get("/v1/devices", params={"continuation": token}).status_code == 400


def test_nothing_is_described_that_does_not_happen(description: dict[str, Any]) -> None:
    for one in operations(description):
        # That an Idempotency-Key came with another request is told of writes alone.
        assert ("422" in one.said["responses"]) == (one.method != "get"), (one.method, one.path)
        assert one.said.get("summary")
        assert one.said.get("description"), (one.method, one.path)
