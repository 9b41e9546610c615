from collections.abc import Iterator

import pytest

from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.api.serving import Guarded, guarded, written
from tests.workers.system import fresh_system


@pytest.fixture(scope="module")
def gate(shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with (
        fresh_system(shared_redis) as system,
        guarded(
            system, tmp_path_factory.mktemp("gate"), TWINFOLD_REQUEST_SECONDS_MAX=str(waiting.seconds(2))
        ) as serving,
    ):
        serving.register("victim")
        serving.register("thief")
        for name in ("victim", "thief"):
            serving.http.put(f"/devices/{name}/modules/mine", json={}, headers=serving.policy())
        yield serving


@pytest.fixture
def writing() -> None:
    """A test that has somebody write with good reason."""


@pytest.fixture
def unharmed(gate: Guarded, request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test tries, nothing is stored, no fault of ours is logged, and the API lives on."""
    heads, said = written(gate.system), len(gate.said())
    yield
    assert gate.http.get("/healthz").status_code == 200
    assert "Traceback" not in gate.said()[said:]
    if "writing" not in request.fixturenames:
        assert written(gate.system) == heads
