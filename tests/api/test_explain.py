"""Explanations over HTTP, with real workers."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from events import CreateDeployment, PatchTags, RegisterDevice
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import served
from tests.workers.system import System, answer, base, layer

pytestmark = pytest.mark.redis_server


@pytest.fixture(scope="module")
def serving(shared_redis: EmbeddedRedis) -> Iterator[tuple[System, httpx.Client]]:
    with served(shared_redis) as both:
        yield both


@pytest.fixture(scope="module")
def told(serving: tuple[System, httpx.Client]) -> dict[str, Any]:
    system, http = serving
    system.do(
        RegisterDevice("edge-7"),
        PatchTags("edge-7", {"site": "south"}),
        CreateDeployment("base-2", base("cam"), "*", priority=10),
        CreateDeployment("gpu-layer", layer("cam", fps=3), "*", priority=20),
        CreateDeployment("prod-9", base("cam"), "tags.site = 'north' AND NOT tags.ring != 'late'", priority=30),
        CreateDeployment("old", base("cam"), "*", priority=3),
        CreateDeployment("low", layer("cam", fps=1), "tags.floor > 4", priority=3),
    )
    system.settle()
    system.do(answer(system, "edge-7", cam="running"))
    system.settle()
    found: dict[str, Any] = http.get("/v1/devices/edge-7/explain").raise_for_status().json()
    return found


def test_each_deployment_has_a_verdict_and_a_reason(told: dict[str, Any]) -> None:
    reasons = {
        one["id"]: (one["verdict"], one["obstacle"] and (one["obstacle"]["reason"], one["obstacle"]["by"]))
        for one in told["deployments"]
    }
    assert reasons == {
        "base-2": ("base", None),
        "gpu-layer": ("layer", None),
        "prod-9": ("not targeted", ("condition", None)),
        "old": ("passed over", ("base-outranked", "base-2")),
        "low": ("not targeted", ("condition", None)),
    }
    low = next(one for one in told["deployments"] if one["id"] == "low")
    assert low["ifTargeted"] == {"reason": "layer-not-above-base", "by": "base-2"}
