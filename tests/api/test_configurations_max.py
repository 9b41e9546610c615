"""A limit on the number of deployments, as hubs have one (contract/hub.md §1.3)."""

import httpx
import pytest

from services.embedded_redis import EmbeddedRedis
from tests.api.serving import api
from tests.workers.system import base, fresh_system

pytestmark = [pytest.mark.redis_server, pytest.mark.full]

BODY = {"content": base("m"), "priority": 1}
FULL = (413, "ConfigurationCountLimitExceeded")


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.headers.get("iothub-errorcode", "")


def test_one_more_than_the_setting_allows_is_refused_whatever_its_way(shared_redis: EmbeddedRedis) -> None:
    with fresh_system(shared_redis) as system, api(system, TWINFOLD_CONFIGURATIONS_MAX="2") as http:
        for name in ("one", "two"):
            http.put(f"/configurations/{name}", json=BODY).raise_for_status()
        heads = system.log.heads()
        one_more = http.put("/configurations/more", json=BODY)
        assert told(one_more) == FULL
        text = "Number of deployments exceed the maximum quota 2 for this IotHub."
        assert one_more.json()["Message"] == f"ErrorCode:ConfigurationCountLimitExceeded;{text}"
        assert told(http.post("/v1/deployments/more", json=BODY)) == FULL
        assert system.log.heads() == heads


@pytest.mark.full
def test_what_is_there_may_change_and_makes_room_when_it_goes(shared_redis: EmbeddedRedis) -> None:
    with fresh_system(shared_redis) as system, api(system, TWINFOLD_CONFIGURATIONS_MAX="1") as http:
        http.put("/configurations/one", json=BODY).raise_for_status()
        assert told(http.put("/configurations/one", json=BODY)) == (409, "ConfigurationAlreadyExists")
        assert http.put("/configurations/one", json=BODY, headers={"If-Match": "*"}).status_code == 200
        http.delete("/configurations/one").raise_for_status()
        assert http.put("/configurations/two", json=BODY).status_code == 200


@pytest.mark.full
def test_events_that_come_together_are_counted_one_by_one(shared_redis: EmbeddedRedis) -> None:
    lines = (
        b'{"command": "CreateDeployment", "deployment_id": "%s", "validation": "content", '
        b'"content": {"modulesContent": {"$edgeAgent": {}}}}\n' % name
        for name in (b"one", b"two", b"three")
    )
    with fresh_system(shared_redis) as system, api(system, TWINFOLD_CONFIGURATIONS_MAX="2") as http:
        written = http.post("/v1/events", content=b"".join(lines), headers={"content-type": "application/x-ndjson"})
        assert (written.json()["written"], [one["line"] for one in written.json()["refused"]]) == (2, [3])
        assert [one["id"] for one in http.get("/configurations").json()] == ["one", "two"]


@pytest.mark.full
def test_without_the_setting_there_may_be_any_number(shared_redis: EmbeddedRedis) -> None:
    with fresh_system(shared_redis) as system, api(system) as http:
        for number in range(101):
            assert http.put(f"/configurations/d{number}", json=BODY).status_code == 200
