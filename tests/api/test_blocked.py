"""`/v1/blocked`: what is stopped, why, and a decision over HTTP."""

from collections.abc import Iterator

import pytest

from events import PatchTags
from events.log.keys import FLEET
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import Guarded, guarded
from tests.api.test_description import Operation, check
from tests.servers import eventually
from tests.workers.system import fresh_system, join
from tests.workers.test_blocked import damage

pytestmark = pytest.mark.redis_server

ONE = "/v1/blocked/{location}"


@pytest.fixture
def serving(shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("d")
    with (
        fresh_system(shared_redis) as system,
        system.process("-m", "workers.pool"),
        guarded(system, directory) as served,
    ):
        system.do(*join("d0"))
        yield served


def test_a_stop_is_shown_and_decided_by_an_administrator_alone(serving: Guarded) -> None:
    system, http = serving.system, serving.http
    admin, reader, operator = (serving.token(role) for role in ("admin", "read", "operate"))
    description = http.get("/openapi.json").json()
    assert http.get("/v1/blocked", headers=reader).json() == []
    system.settle()  # A partition that is stopped is behind by the fleet's events, too, that it has not applied by then.
    bad = damage(system, 1, b'{"type":"Odd"}')
    system.waker.wake([1])
    eventually(lambda: http.get("/v1/blocked", headers=reader).json(), what="it is stopped")
    (line,) = http.get("/v1/blocked", headers=reader).json()
    assert (line["location"], line["waiting"], line["decidable"]) == (f"p01:{bad}", {"p01": 1}, True)
    path = f"/v1/blocked/p01:{bad}"
    shown = http.get(path, headers=reader)
    check(shown, Operation("get", ONE, description["paths"][ONE]["get"]), description)
    assert shown.json()["entry"]["data"] == {"type": "Odd"}
    body = {"decision": "skip", "reason": "a script"}
    for headers in (reader, operator):
        assert http.post(path, json=body, headers=headers).status_code == 401
    assert http.post(path, json=body | {"reason": " "}, headers=admin).status_code == 400
    assert http.post("/v1/blocked/p02:9", json=body, headers=admin).status_code == 404
    head = system.log.head(FLEET)
    done = http.post(path, json=body, headers=admin)
    assert done.status_code == 202
    check(done, Operation("post", ONE, description["paths"][ONE]["post"]), description)
    eventually(lambda: http.get("/v1/blocked", headers=reader).json() == [], what="it goes on")
    (decision,) = system.log.read(FLEET, after=head, limit=1)
    assert (str(decision.by), getattr(decision.event, "reason", "")) == ("user:caller-admin", "a script")
    system.do(PatchTags("d0", {"on": True}))
    system.settle()
