"""Whoever is scoped looks ahead within their scope, and learns nothing of what is outside."""

import pytest

from events.canonical import encode
from events.log.keys import partition_of
from tests.api.serving import Guarded
from tests.workers.system import base, deploy, join

pytestmark = pytest.mark.redis_server


@pytest.mark.full
def test_whoever_is_scoped_sees_only_their_devices(gate: Guarded) -> None:
    gate.system.do(*join("mine", site="north"), *join("theirs", site="south"))
    gate.system.do(deploy("under", base("u"), "*", 1))
    scoped = gate.token("operate", scope="tags.site = 'north'")
    body = {"content": base("o"), "targetCondition": "*", "priority": 9}
    with gate.system.process("-m", "workers.pool"):
        gate.system.settle()
        answer = gate.http.post("/v1/deployments/own", json=body, params={"preview": "true"}, headers=scoped)
    assert answer.is_success, gate.said()
    found = answer.json()
    assert found["affected"]["devices"] == 1
    assert found["reconfigured"]["examples"] == ["mine"]
    where = f"p{partition_of('mine', gate.system.log.partitions):02d}"
    assert found["asOf"].keys() == {where}
    assert found["asOf"][where]["partition"] == gate.system.log.heads()[int(where[1:])]
    assert {one["id"]: one["lost"]["devices"] for one in found["deployments"]} == {"own": 0, "under": 1}
    other = gate.token("operate", scope="tags.site = 'south'")
    line = encode({"command": "PatchTags", "device_id": "mine", "tags": {"a": 1}})
    assert gate.http.post("/v1/preview", content=line, headers=other).status_code == 404
    stolen = {**other, "Twinfold-Preview": found["token"]}
    assert gate.http.post("/v1/deployments/own", json=body, headers=stolen).status_code == 412
    reader = gate.token("read")
    assert gate.http.post("/v1/preview", content=line, headers=reader).status_code == 401


@pytest.mark.full
def test_whoever_is_scoped_is_not_told_how_far_partitions_are_in_which_nobody_of_theirs_is_concerned(
    gate: Guarded,
) -> None:
    gate.system.do(*join("near", site="north"), *join("far", site="south"))
    body = {"content": base("o"), "targetCondition": "tags.site = 'nowhere'", "priority": 9}
    scoped, unlimited = gate.token("operate", scope="tags.site = 'north'"), gate.policy()
    with gate.system.process("-m", "workers.pool"):
        gate.system.settle()
        told = [
            gate.http.post("/v1/deployments/nobodys", json=body, params={"preview": "true"}, headers=headers).json()[
                "asOf"
            ]
            for headers in (scoped, unlimited)
        ]
    assert [len(one) for one in told] == [0, gate.system.log.partitions]
