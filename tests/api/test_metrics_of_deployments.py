"""Metrics of deployments over HTTP: results are as many as the rows of the queries beside them, and have a course."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from events.device.commands import ReportProperties
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import api
from tests.servers import eventually
from tests.workers.system import System, answer, base, deploy, fresh_system, join, layer

pytestmark = pytest.mark.redis_server


@pytest.fixture(scope="module")
def serving(shared_redis: EmbeddedRedis) -> Iterator[tuple[System, httpx.Client]]:
    with (
        fresh_system(shared_redis) as system,
        system.process("-m", "workers.pool", TWINFOLD_SERIES_SECONDS="0.2"),
        api(system) as client,
    ):
        yield system, client


def rows(http: httpx.Client, query: str) -> int:
    """How many rows a query has on all pages."""
    count, headers = 0, {"x-ms-max-item-count": "2"}
    while True:
        told = http.post("/devices/query", json={"query": query}, headers=headers).raise_for_status()
        count += len(told.json())
        if "x-ms-continuation" not in told.headers:
            return count
        headers["x-ms-continuation"] = told.headers["x-ms-continuation"]


def test_results_are_as_many_as_the_rows_of_their_queries(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    for number in range(8):
        system.do(*join(f"d{number}", site="north" if number else "south", n=number))
    queries = {
        "kept": "SELECT deviceId FROM devices WHERE tags.n > 2 AND properties.reported.model = 'x'",
        "of-the-hub": "SELECT deviceId FROM devices WHERE properties.reported.lastDesiredStatus.code = 200",
        "of-a-module": "SELECT * FROM devices.modules WHERE moduleId = 'm' AND properties.reported.state = 'ok'",
        "counted": "SELECT * FROM devices.modules WHERE properties.reported.state = 'ok'",
        "groups": "SELECT tags.site, COUNT() AS n FROM devices GROUP BY tags.site",
    }
    content = {"content": base("m"), "targetCondition": "tags.site = 'north'", "priority": 1}
    http.put("/configurations/base", json={**content, "metrics": {"queries": queries}}).raise_for_status()
    only_modules = {"modulesContent": {"$edgeAgent": {}, "m": {"properties.desired.x": 1}}}
    system.do(
        deploy("tune", only_modules, "tags.n >= 4", priority=2), deploy("more", layer("l"), "tags.n = 6", priority=3)
    )
    system.settle()
    for number in range(2, 7):
        system.do(
            ReportProperties(f"d{number}", {"model": "x"}),
            answer(system, f"d{number}", code=200 if number % 2 else 400),
            ReportProperties(f"d{number}", {"lastDesiredStatus": {"code": 200}}, "$edgeHub"),
            ReportProperties(f"d{number}", {"state": "ok" if number > 3 else "odd"}, "m"),
        )
    system.settle()
    eventually(
        lambda: "3" in str(http.get("/configurations/base").json()["metrics"]["results"]["counted"]), what="counted"
    )
    found: dict[str, Any] = {one["id"]: one for one in http.get("/configurations").json()}
    for name, one in found.items():
        for kind in ("systemMetrics", "metrics"):
            for metric, query in one[kind]["queries"].items():
                assert one[kind]["results"][metric] == rows(http, query), (name, metric)
    assert found["base"]["metrics"]["results"] == {
        "kept": 4,
        "of-the-hub": 5,
        "of-a-module": 3,
        "counted": 3,
        "groups": 2,
    }
    assert found["tune"]["systemMetrics"]["results"]["appliedCount"] == 0
    assert found["base"]["systemMetrics"]["results"]["reportedFailedCount"] == 3

    def seen() -> bool:
        samples = http.get("/v1/deployments/base/series").raise_for_status().json()["samples"]
        return bool(samples) and samples[-1]["metrics"].get("kept") == 4 and samples[-1]["counts"]["actual"] == 7

    eventually(seen, what="the course has the newest numbers")
    samples = http.get("/v1/deployments/base/series").json()["samples"]
    assert [one["at"] for one in samples] == sorted(one["at"] for one in samples)
    last = samples[-1]["at"]
    assert [one["at"] for one in http.get("/v1/deployments/base/series", params={"since": last}).json()["samples"]] == [
        last
    ]


@pytest.mark.full
def test_an_update_says_that_a_content_does_not_change_and_that_a_metric_never_matches(
    serving: tuple[System, httpx.Client],
) -> None:
    _, http = serving
    http.post(
        "/v1/deployments/mine", json={"content": base("m"), "targetCondition": "tags.none = 1"}
    ).raise_for_status()
    same = http.put("/v1/deployments/mine", json={"content": base("m"), "priority": 7}).raise_for_status().json()
    assert [one["rule"] for one in same["advice"] if one["rule"] in {"content-immutable", "metric-never-matches"}] == []
    other = {
        "content": base("other"),
        "metrics": {
            "agent": "select deviceId from devices where properties.reported.modules.m.runtimeStatus = 'running'"
        },
    }
    told = http.put("/v1/deployments/mine", json=other).raise_for_status().json()
    assert {"content-immutable", "metric-never-matches"} <= {one["rule"] for one in told["advice"]}
    shown = http.get("/configurations/mine").json()
    assert (shown["priority"], shown["targetCondition"]) == (7, "tags.none = 1")
    assert "other" not in str(shown["content"])


def test_queries_that_cannot_be_read_are_refused_with_the_place(serving: tuple[System, httpx.Client]) -> None:
    _, http = serving
    refused = http.post("/devices/query", json={"query": "SELECT * FROM devices WHERE tags.a ="})
    assert (refused.status_code, refused.headers["iothub-errorcode"]) == (400, "ArgumentInvalid")
    assert "column" in refused.json()["Message"]
    body = {"content": base("m"), "metrics": {"queries": {"bad": "SELECT * FROM nowhere"}}}
    told = http.put("/configurations/bad", json=body)
    assert (told.status_code, told.headers["iothub-errorcode"]) == (400, "InvalidConfigurationCustomMetricsQuery")
    tried = http.post(
        "/configurations/testQueries",
        json={"targetCondition": "*", "customMetricQueries": {"good": "select * from devices", "bad": "select"}},
    ).json()
    assert set(tried["customMetricQueryErrors"]) == {"bad"}
    assert tried["targetConditionError"]
