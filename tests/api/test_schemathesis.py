"""Requests that schemathesis makes of the description of the API: each is answered, and as it is described."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import BaseSchema, Case, Config
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi import checks

from services.embedded_redis import EmbeddedRedis
from tests.api.serving import served
from tests.workers.system import base, deploy, join

pytestmark = pytest.mark.redis_server

load_all_checks()
CONFORMANCE = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
]
THERE = {"device_id": "edge-1", "module_id": "$edgeAgent", "name": "north", "which": "target"}


@pytest.fixture(scope="module")
def description(shared_redis: EmbeddedRedis) -> Iterator[BaseSchema]:
    with served(shared_redis) as (system, http):
        system.do(*join("edge-1", site="north"), deploy("north", base("m"), "tags.site = 'north'"))
        system.settle()
        schema = schemathesis.openapi.from_url(f"{http.base_url}/openapi.json")

        @schema.hook
        def map_path_parameters(_context: Any, path_parameters: dict[str, Any]) -> dict[str, Any]:
            """Every other name is that of something that is there."""
            return {
                name: THERE[name] if len(str(value)) % 2 else value for name, value in (path_parameters or {}).items()
            }

        yield schema
