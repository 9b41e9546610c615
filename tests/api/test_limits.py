"""What a request may weigh, path by path: refused before it is read, or before anything is made of it."""

import asyncio
import json
import tracemalloc
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from services.api.app import add_routes
from services.api.http.limits import RequestLimits
from services.api.http.request_costs import CONTENT, KIB, MIB
from services.api.http.route_index import RouteIndex
from services.api.http.turns import RequestKind
from tests.api.raw import Raw, connect, head, rest
from tests.api.serving import NDJSON, Guarded
from tests.servers import eventually

pytestmark = [pytest.mark.redis_server, pytest.mark.usefixtures("unharmed")]

PATHS = [
    ("POST", "/v1/devices/victim/reports", 256 * KIB),
    ("PATCH", "/twins/victim", 1 * MIB),
    ("PUT", "/twins/victim/modules/mine", 1 * MIB),
    ("POST", "/devices", 4 * MIB),
    ("PUT", "/configurations/a", 2 * MIB),
    ("POST", "/v1/deployments/a", 2 * MIB),
    ("POST", "/devices/victim/applyConfigurationContent", 2 * MIB),
    ("POST", "/devices/query", 256 * KIB),
    ("POST", "/v1/events", 8 * MIB),
    ("PUT", "/devices/victim", 64 * KIB),
    ("PUT", "/v1/webhooks/a", 64 * KIB),
    ("DELETE", "/devices/victim", 64 * KIB),
]


@pytest.fixture(scope="module")
def routes() -> RouteIndex:
    return add_routes(FastAPI(openapi_url=None))


def too_large(answer: Raw | httpx.Response) -> bool:
    status = answer.status if isinstance(answer, Raw) else answer.status_code
    return (status, answer.headers["iothub-errorcode"]) == (413, "MessageTooLarge")


@pytest.mark.parametrize(("method", "path", "limit"), PATHS)
def test_a_declared_length_over_the_limit_of_its_path_is_refused_before_a_byte_is_read(
    gate: Guarded, method: str, path: str, limit: int
) -> None:
    with connect(gate) as wire:
        length = {"Content-Length": str(limit + 1), "Connection": "close", "Content-Type": "application/json"}
        wire.sendall(head(gate, method, path, {**gate.policy(), **length}))
        answer = Raw(rest(wire))
    assert too_large(answer)
    assert f"more than {limit} bytes" in answer.body.decode()


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/devices/victim/reports"), ("PUT", "/devices/victim")])
def test_a_length_that_is_not_declared_is_held_to_the_same_limit(gate: Guarded, method: str, path: str) -> None:
    parts = (b" " * 4096 for _ in range(512))
    try:
        answer = gate.http.request(method, path, content=parts, headers=gate.policy())
    except httpx.TransportError:
        return  # It was closed before all was sent.
    assert too_large(answer)


def members(count: int) -> str:
    return "{" + ",".join(f'"{number}":0' for number in range(count)) + "}"


def test_a_device_that_reports_more_values_than_can_be_valid_is_told_so_before_they_are_decoded(gate: Guarded) -> None:
    for path, who in (("/v1/devices/thief/reports", gate.device("thief")), ("/twins/thief", gate.policy())):
        method, count = ("POST", 12_000) if path.startswith("/v1") else ("PATCH", 40_000)
        answer = gate.http.request(method, path, content=f'{{"patch":{members(count)}}}', headers=who)
        assert too_large(answer)
        assert "names and values, and the limit" in answer.text


@pytest.mark.parametrize("depth", [65, 10_000])
def test_json_that_is_nested_deeper_than_anything_valid_is_refused(gate: Guarded, depth: int) -> None:
    content = '{"tags":' * depth + "1" + "}" * depth
    answer = gate.http.patch("/twins/victim", content=content, headers=gate.policy())
    assert (answer.status_code, answer.headers["iothub-errorcode"]) == (400, "ArgumentInvalid")
    assert "nested deeper than 64" in answer.text


def test_what_is_valid_and_as_large_as_can_be_is_not_refused_for_its_size(gate: Guarded) -> None:
    """Every character escaped, as Python's json writes those beyond ASCII."""
    values = {f"a{number:02}": "\u00e9" * 2040 for number in range(7)}
    answer = gate.http.post(
        "/v1/devices/nobody/reports", content=json.dumps({"patch": values}), headers=gate.policy() | NDJSON
    )
    assert answer.status_code != 413


def test_a_line_of_too_many_values_is_refused_and_the_others_are_not(gate: Guarded) -> None:
    line = '{"command": "PatchTags", "device_id": "nobody", "tags": ' + members(40_000) + "}"
    result = gate.http.post("/v1/events", content=f"{line}\n{{}}\n", headers=gate.policy() | NDJSON).json()
    assert [one["line"] for one in result["refused"]] == [1, 2]
    assert "names and values" in result["refused"][0]["error"]


def test_after_a_thousand_refused_lines_the_rest_is_not_read(gate: Guarded) -> None:
    answer = gate.http.post("/v1/events", content=b"{}\n" * 500_000, headers=gate.policy() | NDJSON)
    assert answer.status_code == 400
    message = answer.json()["error"]["message"]
    assert message.startswith("over 1000 lines are refused, the first of them line 1: command must be one of ")
    assert message.endswith("the lines up to line 2000 were read and wrote 0 events, the rest was not read")


@pytest.mark.parametrize(
    ("method", "path", "query", "work"),
    [
        ("GET", "/healthz", b"", RequestKind.NONE),
        ("GET", "/v1/devices/d/desired", b"wait=60", RequestKind.NONE),
        ("GET", "/twins/d", b"", RequestKind.READ),
        ("GET", "/twins/d", b"at=1", RequestKind.LONG),
        ("PATCH", "/twins/d", b"", RequestKind.WRITE),
        ("PATCH", "/twins/d", b"preview=true", RequestKind.LONG),
        ("GET", "/v1/devices/d/explain", b"", RequestKind.LONG),
        ("GET", "/v1/audit/export", b"", RequestKind.LONG),
        ("POST", "/devices/query", b"", RequestKind.LONG),
        ("PUT", "/devices/query", b"", RequestKind.WRITE),
        ("PUT", "/devices/d", b"", RequestKind.WRITE),
        ("POST", "/v1/events", b"", RequestKind.LONG),
    ],
)
def test_what_kind_of_work_a_request_is_follows_from_its_method_path_and_query(
    routes: RouteIndex, method: str, path: str, query: bytes, work: RequestKind
) -> None:
    assert routes.match(method, path).cost(query).work is work


def test_while_a_handler_runs_its_body_is_in_memory_once() -> None:
    parts = [b'"' + b"a" * (MIB // 2), b"a" * (MIB // 2) + b'"']
    messages = [{"type": "http.request", "body": part, "more_body": part is parts[0]} for part in parts]

    async def handler(*_: Any) -> None:
        # The thread that checked the body may let go of it a moment later.
        eventually(lambda: tracemalloc.get_traced_memory()[0] < MIB // 2, what="the copy is gone")

    async def receive() -> Any:
        return messages.pop(0)

    async def send(_: Any) -> None:
        """Nothing is answered."""

    state = {"route": SimpleNamespace(cost=lambda _: CONTENT), "caller": SimpleNamespace(principal="user:ada")}
    headers = [(b"content-length", str(sum(map(len, parts))).encode())]
    scope = {"type": "http", "path": "/v1/deployments/a", "query_string": b"", "headers": headers, "state": state}
    tracemalloc.start()
    try:
        asyncio.run(RequestLimits(handler, bytes_max=MIB * 2, seconds_max=10.0)(scope, receive, send))
    finally:
        tracemalloc.stop()
