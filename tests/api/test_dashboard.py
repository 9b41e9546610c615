"""The dashboard asks for metrics that there are."""

import json
import re
from pathlib import Path

import pytest

from services.embedded_redis import EmbeddedRedis
from tests.api.serving import api
from tests.repo.tree import text
from tests.workers.system import fresh_system

pytestmark = pytest.mark.redis_server


def test_every_metric_of_the_dashboard_is_served(shared_redis: EmbeddedRedis) -> None:
    panels = json.loads(text(Path("docs/reference/grafana.json")))["panels"]
    asked = {name for panel in panels for one in panel["targets"] for name in re.findall(r"twinfold_\w+", one["expr"])}
    assert len(asked) >= 10
    with fresh_system(shared_redis) as system, api(system) as http:
        served = set(re.findall(r"^(twinfold_\w+)", http.get("/metrics").text, re.MULTILINE))
    assert asked <= served
