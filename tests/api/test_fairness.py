"""One caller, however large or slow the input, does not delay another (DESIGN §12).

The only timed assertions of all tests, as the promise is a time: 250 ms of a quiet machine. They are scaled by how much
slower the machine is before, meanwhile and after, measured in the same run (tests/waiting.py).
"""

import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.api.serving import NDJSON, Guarded, guarded
from tests.workers.system import base, deploy, fresh_system, join

pytestmark = [pytest.mark.redis_server, pytest.mark.long]

P99_SECONDS_MAX = 0.25
MEMORY_MIB_MAX = 300
"""What the API's process may grow by, whatever is sent; before there were limits, one report took 1 GiB."""

PROBES = 150
DEVICES = 1500
JSON = {"Content-Type": "application/json"}
VERSION = "?api-version=2021-04-12"
CONDITION = " OR ".join(f"tags.n{number} = {number}" for number in range(400))
SCANNED = "SELECT COUNT() AS n FROM devices WHERE tags.site + 'x' = 'y' OR "
TRIED = {str(number): f"SELECT deviceId FROM devices WHERE {CONDITION}" for number in range(20)}  # noqa: S608


class Slow(msgspec.Struct, frozen=True):
    """A request that is as slow as its path lets it be; `by` sends it, and gets one of the statuses."""

    name: str
    method: str
    path: str
    statuses: tuple[int, ...] = (200,)
    content: str = ""
    times: int = 1
    by: str = "operate"
    connections: int = 4


def members(count: int) -> str:
    return "{" + ",".join(f'"m{number}":{number}' for number in range(count)) + "}"


def tags(count: int) -> str:
    lines = ({"command": "PatchTags", "device_id": f"d{n % DEVICES}", "tags": {"n": n}} for n in range(count))
    return "".join(json.dumps(line) + "\n" for line in lines)


def content(count: int) -> dict[str, Any]:
    made = base(*(f"m{number}" for number in range(45)))
    made["modulesContent"]["m0"] = {"properties.desired": {f"k{number}": number for number in range(count)}}
    return made


def new(count: int, **members: str) -> str:
    return json.dumps({**members, "content": content(count), "targetCondition": CONDITION})


REPORTS, TWIN, EVENTS = "/v1/devices/keyed/reports", f"/twins/d1{VERSION}", "/v1/events"
DEEP = '{"patch":' + '{"a":' * 9_000 + "1" + "}" * 9_001
MANY = json.dumps([{"id": f"b{n}", "tags": {f"t{m}": m for m in range(450)}} for n in range(100)])
LONG_LINE = '{"command": "PatchTags", "device_id": "d0", "tags": ' + members(29_000) + "}\n"
SCAN = json.dumps({"query": SCANNED + CONDITION[:7000].rpartition(" OR ")[0]})
INPUTS = [
    # Previews first: they wait for workers, which the fixture ends, where something was written since.
    Slow("a preview of a deployment", "POST", "/v1/deployments/all?preview=true", (200,), new(500)),
    Slow("a preview of lines", "POST", "/v1/preview", (200,), tags(1000)),
    Slow("a report of 600,000 members", "POST", REPORTS, (413,), '{"patch":' + members(600_000) + "}", by="device"),
    Slow("a report as large as is read", "POST", REPORTS, (400,), '{"patch":' + members(9_500) + "}", by="device"),
    Slow("a report nested deep", "POST", REPORTS, (400,), DEEP, by="device"),
    Slow("a string without an end", "POST", REPORTS, (400,), '{"patch": "' + '\\"' * 120_000, by="device"),
    Slow("a twin as large as is read", "PATCH", TWIN, (400,), '{"tags":' + members(29_000) + "}"),
    Slow("a bulk change as large as is read", "POST", f"/devices{VERSION}", (200, 400), MANY),
    Slow("a deployment as large as is read", "PUT", f"/configurations/large{VERSION}", (400,), new(25_000, id="large")),
    Slow(
        "conditions and queries to try",
        "POST",
        f"/configurations/testQueries{VERSION}",
        (200,),
        json.dumps({"targetCondition": CONDITION, "customMetricQueries": TRIED}),
    ),
    Slow("a query that looks at every document", "POST", f"/devices/query{VERSION}", (200,), SCAN),
    Slow("lines that change twins", "POST", EVENTS, (200,), tags(5000)),
    Slow("empty lines", "POST", EVENTS, (400,), "\n", times=4_000_000),
    Slow("lines that are no commands", "POST", EVENTS, (400,), "{}\n", times=1_000_000),
    Slow("long lines", "POST", EVENTS, (200,), LONG_LINE, times=8),
    Slow("an explanation", "GET", "/v1/devices/d0/explain"),
    Slow("deployments in the past", "GET", "/v1/deployments?at={at}"),
    Slow("a difference of two moments", "GET", "/v1/diff?from=fleet:1&to={at}"),
    Slow("a search that finds nothing", "GET", "/v1/audit/events?by=nobody", by="admin"),
    Slow("an export of all of history", "GET", "/v1/audit/export?format=csv", by="admin"),
    Slow("a list of all identities", "GET", f"/devices{VERSION}&top=1000"),
    Slow("a list of all deployments", "GET", f"/configurations{VERSION}"),
    Slow("the description of the API", "GET", "/openapi.json", by="nobody"),
    Slow("many reads at once", "GET", "/v1/devices/d0/effective", connections=60),
    Slow("many that wait at once", "GET", "/v1/devices/d0/desired?wait=0.01", connections=60),
    Slow("many writes at once", "PATCH", f"/twins/d2{VERSION}", (200,), '{"tags":{"a":1}}', connections=60),
]


class Served(msgspec.Struct, frozen=True):
    """An API with a fleet, and the headers of its callers."""

    api: Guarded
    headers: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def served(shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with fresh_system(shared_redis) as system, guarded(system, tmp_path_factory.mktemp("fair")) as api:
        with system.process("-m", "workers.pool"):
            for start in range(0, DEVICES, 500):
                system.do(*(one for n in range(start, start + 500) for one in join(f"d{n}", site=f"s{n % 20}", n=n)))
            system.do(*(deploy(f"base-{n}", base(f"m{n}"), f"tags.site = 's{n % 20}'", n) for n in range(100)))
            api.register("keyed")
            tokens = {role: api.token(role) for role in ("read", "operate", "admin")}
            headers = {**tokens, "device": api.device("keyed"), "nobody": {}}
            system.settle()
        yield Served(api, headers)


def p99(seconds: list[float]) -> float:
    return sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1]


def probed(served: Served) -> list[float]:
    """How long the answers to another caller take, in seconds: whether the API lives, and a twin, in turns."""
    taken = []
    with httpx.Client(
        base_url=served.api.http.base_url, headers=served.headers["read"], timeout=waiting.seconds()
    ) as http:
        for number in range(PROBES):
            began = time.perf_counter()
            answer = http.get("/healthz" if number % 2 else f"/twins/d7{VERSION}")
            taken.append(time.perf_counter() - began)
            assert answer.status_code == 200, answer.text
    return taken


def memory_mib(served: Served) -> int:
    """What the API's process has in memory."""
    wanted = f"TWINFOLD_PORT={served.api.http.base_url.port}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_api = b"services.api" in (process / "cmdline").read_bytes()
            if is_api and wanted in (process / "environ").read_bytes().split(b"\0"):
                (line,) = (one for one in (process / "status").read_text().splitlines() if one.startswith("VmRSS:"))
                return int(line.split()[1]) // 1024
        except OSError:
            continue  # It ended meanwhile, or is another user's.
    raise AssertionError("the process of the API is not there")


@pytest.mark.parametrize("slow", INPUTS, ids=lambda slow: slow.name)
def test_while_one_caller_sends_what_is_slow_another_is_answered_at_once(served: Served, slow: Slow) -> None:
    is_lines = slow.path in {EVENTS, "/v1/preview"}
    order = {
        "url": str(served.api.http.base_url),
        "method": slow.method,
        "path": slow.path.format(at=time.time_ns() // 1_000_000 - 1),
        "headers": {**(NDJSON if is_lines else JSON), **served.headers[slow.by]},
        "content": slow.content,
        "times": slow.times,
        "connections": slow.connections,
    }
    memory, slowness = memory_mib(served), waiting.slowness(fresh_seconds=0)
    with (
        subprocess.Popen(
            [sys.executable, "-m", "tests.api.slow_callers"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process,
        waiting.limited(process, 10 * waiting.SECONDS_MAX),
    ):
        assert process.stdin is not None
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        probed(served)  # Until all of them have come to it.
        slowness = max(slowness, waiting.slowness(fresh_seconds=0))
        taken = probed(served)
        slowness = max(slowness, waiting.slowness(fresh_seconds=0))
        statuses, _ = process.communicate()
    answered = set(json.loads(statuses))
    assert answered & set(slow.statuses), answered
    assert answered <= {*slow.statuses, 429}
    assert p99(taken) <= P99_SECONDS_MAX * slowness
    assert memory_mib(served) <= memory + MEMORY_MIB_MAX
