"""Moments as they are written, and what is said of those that there are not."""

from typing import Any

import httpx
import pytest

from events import PatchTags
from events.history.errors import PointInTimeInvalid
from events.history.point_in_time import read_point_in_time
from events.log.keys import FLEET, partition_of
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import api
from tests.history.past_reads import vector
from tests.workers.system import base, deploy, fresh_system, join

SECOND = 1_000_000_000_000


@pytest.mark.parametrize(
    ("text", "requested_time"),
    [
        ("1763719200000", (1763719200000, {})),
        ("2025-11-21T10:00:00Z", (1763719200000, {})),
        ("2025-11-21T11:00:00+01:00", (1763719200000, {})),
        ("2025-11-21T11:00:00 01:00", (1763719200000, {})),
        ("2025-11-21T10:00:00.5Z", (1763719200500, {})),
        ("fleet:17", (None, {-1: 17})),
        ("p03:120", (None, {3: 120})),
        ("fleet:17,p03:120,time:5", (5, {-1: 17, 3: 120})),
    ],
)
def test_a_point_in_time_is_a_time_or_positions_or_both(
    text: str, requested_time: tuple[int | None, dict[int, int]]
) -> None:
    assert read_point_in_time(text) == requested_time


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is no RFC 3339 time"),
        ("yesterday", "it is no RFC 3339 time"),
        ("2025-11-21T10:00:00", "no offset"),
        ("-5", "it is no RFC 3339 time"),
        ("fleet:", "is no position"),
        ("fleet:-1", "is no position"),
        ("p03:assignments", "is no position"),
        ("rocket:1", "a stream is called"),
        ("fleet:1,fleet:2", "has two positions"),
        ("fleet:1 p03:2", "is no position"),
    ],
)
def test_what_is_no_point_in_time_is_refused_by_the_rule_that_it_breaks(text: str, why: str) -> None:
    with pytest.raises(PointInTimeInvalid, match=why):
        read_point_in_time(text)


def _layers(http: httpx.Client, **params: str) -> Any:
    return http.get("/v1/devices/d/effective", params=params).raise_for_status().json()["layers"]


@pytest.mark.redis_server
@pytest.mark.full
def test_what_was_in_effect_while_workers_were_stopped_and_what_was_implied(shared_redis: EmbeddedRedis) -> None:
    with fresh_system(shared_redis) as system, api(system) as http:
        with system.process("-m", "workers.pool"):
            system.do(*join("d", site="north"), deploy("old", base("a"), "tags.site = 'north'"))
            system.settle()
        # Nobody decides any more.
        system.do(deploy("new", base("b"), "tags.site = 'north'", 5))
        stopped = vector(system, 0).rpartition(",")[0]
        system.do(PatchTags("d", {"floor": 1}), deploy("newer", base("c"), "tags.floor = 1", 9))
        later = vector(system, 0).rpartition(",")[0]
        assert _layers(http, at=later) == ["old"]
        assert _layers(http, at=later, mode="implied") == ["newer"]
        with system.process("-m", "workers.pool"):
            system.settle()
        # Both were decided in one go, later: at the moment in between it was the old one that was in effect.
        assert _layers(http, at=stopped) == ["old"]
        assert _layers(http, at=stopped, mode="implied") == ["new"]
        assert _layers(http, at=later) == ["newer"] == _layers(http)
        _refuses_what_there_is_not(http)


@pytest.mark.redis_server
@pytest.mark.full
def test_what_was_decided_late_is_in_effect_from_then_on_and_not_before(shared_redis: EmbeddedRedis) -> None:
    with fresh_system(shared_redis) as system, api(system) as http:
        with system.process("-m", "workers.pool"):
            system.do(*join("d", site="north"), deploy("old", base("a"), "tags.site = 'north'"))
            system.settle()
        number = partition_of("d", system.log.partitions)
        system.do(deploy("new", base("b"), "tags.site = 'north'", 5))
        asked = system.log.read(FLEET, after=system.log.head(FLEET) - 1, limit=1)[0].at
        with system.process("-m", "workers.pool"):
            system.settle()
        late = system.projections.assignment_changes(
            number, after=system.projections.checkpoint(number).assignment_changes - 1, limit=1
        )[0]
        assert late.recorded is not None
        # Starting a pool takes longer than a millisecond.
        assert asked == late.at < late.recorded
        for time in (asked, late.recorded - 1):
            before = http.get("/v1/devices/d/effective", params={"at": str(time)})
            assert before.json()["layers"] == ["old"]
            again = http.get("/v1/devices/d/effective", params={"at": before.headers["Twinfold-As-Of"]})
            assert again.content == before.content
            assert _layers(http, at=str(time), mode="implied") == ["new"]
        assert _layers(http, at=str(late.recorded)) == ["new"] == _layers(http)
        # A position asks for what was decided about it, whenever that was.
        assert _layers(http, at=f"fleet:{system.log.head(FLEET)}") == ["new"]
        assert _layers(http, at=f"fleet:{system.log.head(FLEET)},time:{asked}") == ["old"]


def _refuses_what_there_is_not(http: httpx.Client) -> None:
    for method, path, params, said in (
        ("GET", "/v1/devices", {"at": "fleet:999"}, "is in the future"),
        ("GET", "/v1/devices", {"at": "9999-01-01T00:00:00Z"}, "is in the future"),
        ("GET", "/v1/devices", {"at": "fleet:0"}, "before the first event"),
        ("GET", "/v1/devices", {"at": "soon"}, "is no point in time"),
        ("GET", "/v1/devices", {"at": "p77:1"}, "this log has the partitions"),
        ("GET", "/v1/devices/d/desired", {"at": "fleet:1", "wait": "1"}, "exclude each other"),
        ("GET", "/v1/stream", {"at": "fleet:1"}, "a stream has events to come"),
        ("GET", "/devices/d", {"at": "fleet:1"}, "no past"),
        ("PATCH", "/twins/d", {"at": "fleet:1"}, "not changed"),
        ("DELETE", "/v1/groups/d", {"at": "fleet:1"}, "not changed"),
        ("GET", "/v1/diff", {"from": "fleet:3", "to": "fleet:1"}, "must not be before"),
        ("GET", "/v1/diff", {"from": "fleet:1", "device": "d", "deployment": "old"}, "cannot both be set"),
    ):
        answer = http.request(method, path, params=params, json={} if method == "PATCH" else None)
        assert answer.status_code == 400, (path, answer.text)
        assert said in answer.text, (path, answer.text)


@pytest.mark.redis_server
@pytest.mark.full
def test_an_answer_names_its_point_in_time_and_asking_for_that_gives_the_same_bytes(
    shared_redis: EmbeddedRedis,
) -> None:
    with fresh_system(shared_redis) as system, system.process("-m", "workers.pool"), api(system) as http:
        system.do(*join("d", site="north"), deploy("old", base("a")))
        system.settle()
        (second,) = system.log.read(-1, after=1, limit=1)
        for at in (str(second.at), "fleet:2", "p03:0,fleet:2"):
            for path in ("/v1/devices/d/effective", "/v1/deployments", "/twins/d"):
                first = http.get(path, params={"at": at})
                said = first.headers["Twinfold-As-Of"]
                again = http.get(path, params={"at": said})
                assert (again.content, again.headers["Twinfold-As-Of"]) == (first.content, said)
                # Only streams that matter: of one device its own partition. A time where one was asked for.
                streams = {part.partition(":")[0] for part in said.split(",")}
                own = {f"p{number:02}" for number in range(system.log.partitions)}
                wanted = own if path == "/v1/deployments" else {f"p{partition_of('d', system.log.partitions):02}"}
                wanted |= {part.partition(":")[0] for part in at.split(",") if ":" in part}
                assert streams == {*wanted, "fleet"} | ({"time"} if at.isdigit() else set())


@pytest.mark.redis_server
def test_a_diff_says_what_changed_of_a_device_a_deployment_and_the_fleet_and_by_whom(
    shared_redis: EmbeddedRedis,
) -> None:
    with fresh_system(shared_redis) as system, system.process("-m", "workers.pool"), api(system) as http:
        system.do(
            *join("d", site="north", old=1), *join("e", site="north"), deploy("a", base("one"), "tags.site = 'north'")
        )
        system.settle()
        then = vector(system, 0).rpartition(",")[0]
        system.do(
            PatchTags("d", {"old": None, "site": "south"}), *join("f"), deploy("b", base("two"), "tags.site = 'south'")
        )
        system.settle()
        of_device = http.get("/v1/diff", params={"from": then, "device": "d"}).raise_for_status().json()
        told = [(one["how"], one["section"], one["path"]) for one in of_device["changes"]]
        assert told[0] == ("removed", "modules/$edgeAgent", "modules.one")
        assert {("removed", "tags", "old"), ("changed", "tags", "site"), ("changed", "assignment", "layers")} < {*told}
        kinds = [event["type"] for event in of_device["events"]]
        assert (
            sorted(kinds) == ["AssignmentChange", "DeploymentCreated", "TwinPatched"]
            or kinds.count("AssignmentChange") == 2
        )
        assert of_device["by"]["user:ada"] == 2
        gone = http.get("/v1/diff", params={"from": then, "deployment": "a"}).raise_for_status().json()
        assert gone["devices"]["actual"]["lost"] == {"count": 1, "devices": ["d"]}
        assert gone["devices"]["target"]["gained"]["count"] == 0
        fleet = http.get("/v1/diff", params={"from": then}).raise_for_status().json()
        assert fleet["deployments"] == {"removed": [], "changed": [], "added": ["b"]}
        assert fleet["devices"]["registered"]["gained"]["devices"] == ["f"]
        assert [(one["before"]["layers"], one["after"]["layers"], one["devices"]) for one in fleet["assignments"]] == [
            (["a"], ["b"], ["d"])
        ]
        same = http.get("/v1/diff", params={"from": fleet["to"], "to": fleet["to"]}).raise_for_status().json()
        assert (same["assignments"], same["eventCount"]) == ([], 0)
