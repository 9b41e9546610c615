"""Erasure over HTTP and the command line: nobody reads it again, and history replays to the same bytes."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from events.envelope import Principal
from events.log.connect import connect
from events.log.keys import FLEET
from events.log.log_factory import initialise, open_log
from events.log.redis import RedisLog
from events.log.subject_record import decode_record
from events.producer.erasure import Erasable, FileKeepsErased, erase
from events.producer.producer import Producer
from events.secrets.errors import SecretErased
from events.secrets.redis import RedisSecretStore
from events.secrets.references import references
from events.secrets.sealed_secret import Sealed
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.api.serving import Guarded, guarded
from tests.servers import flush
from tests.stored_subjects import subjects_in
from tests.workers.system import PARTITIONS, System, assert_rebuilt, base, fresh_system

DPO = Principal.parse("user:dpo")

pytestmark = [pytest.mark.redis_server, pytest.mark.full]


@pytest.fixture
def serving(shared_redis: EmbeddedRedis, tmp_path: Path) -> Iterator[Guarded]:
    with (
        fresh_system(shared_redis) as system,
        system.process("-m", "workers.pool"),
        guarded(system, tmp_path, TWINFOLD_PERSONAL_TAGS="owner,contact.mail") as served,
    ):
        yield served


def twinfold(system: System, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.cli", *words, "--redis-url", system.url]
    return waiting.run(command, env=system.environment())


def all_of(system: System) -> bytes:
    """Everything that Redis has, but the sealed secrets."""
    client: Any = system.log.client
    found = []
    for one in client.scan_iter(count=1000):
        found.append((client.dump(one) or b"") if one != b"{fleet}:secrets" else b"")
        if client.type(one) == b"stream":
            found.append(repr(client.xrange(one)).encode())
        if client.type(one) == b"hash" and one != b"{fleet}:secrets":
            found.append(repr(client.hgetall(one)).encode())
        if one.endswith(b":subjects"):
            records = (decode_record(record) for record in client.hgetall(one).values())
            found += (stored.snapshot or b"" for stored in records)
    return b"".join(found)


def test_a_personal_tag_is_nowhere_in_plain_but_for_an_administrator_and_is_erased_for_good(serving: Guarded) -> None:
    system, http = serving.system, serving.http
    admin, reader, operator = (serving.token(role) for role in ("admin", "read", "operate"))
    serving.register("d1")
    tags = {"owner": "Ada-Lovelace", "site": "north", "contact": {"mail": "ada@example.com", "room": 7}}
    patched = http.patch("/twins/d1", json={"tags": tags}, headers=operator)
    assert patched.is_success, patched.text
    hidden = {"owner": "***", "site": "north", "contact": {"mail": "***", "room": 7}}
    assert patched.json()["tags"] == hidden
    assert http.get("/twins/d1", headers=reader).json()["tags"] == hidden
    system.settle()
    found = http.post("/devices/query", json={"query": "SELECT * FROM devices"}, headers=reader)
    assert found.json()[0]["tags"] == hidden
    chosen = http.post("/devices/query", json={"query": "SELECT tags.owner FROM devices"}, headers=reader)
    assert chosen.json() == [{"owner": "***"}]
    for wanted in (
        "* FROM devices WHERE tags.owner = '***'",
        "tags.owner, COUNT() AS n FROM devices GROUP BY tags.owner",
    ):
        asked = http.post("/devices/query", json={"query": f"SELECT {wanted}"}, headers=reader)
        assert (asked.status_code, "tags.owner is personal" in asked.text) == (400, True)
    tried = {"targetCondition": "tags.owner = 'x'", "customMetricQueries": {"m": f"SELECT {wanted}"}}
    errors = http.post("/configurations/testQueries", json=tried, headers=serving.policy()).json()
    assert all("is personal" in one for one in (errors["targetConditionError"], errors["customMetricQueryErrors"]["m"]))
    for headers in (reader, operator):
        assert http.get("/v1/devices/d1/personal", headers=headers).status_code == 401
    own = http.get("/v1/devices/d1/personal", headers=admin).json()
    assert own == {"deviceId": "d1", "tags": {"contact.mail": "ada@example.com", "owner": "Ada-Lovelace"}, "erased": []}
    (noted,) = system.log.read(FLEET, after=system.log.head(FLEET) - 1, limit=1)
    assert (getattr(noted.event, "subjects", ()), getattr(noted.event, "what", "")) == (("d1",), "personal tags")
    body = {"content": base("m"), "targetCondition": "tags.owner = 'Ada-Lovelace'"}
    for path in ("/v1/deployments/a", "/v1/deployments/a?preview=true"):
        refused = http.post(path, json=body, headers=operator)
        assert (refused.status_code, "is personal" in refused.text) == (400, True)
    body["targetCondition"] = "tags.site = 'north'"
    assert http.post("/v1/deployments/a", json=body, headers=operator).is_success
    assert http.patch("/twins/d1", json={"tags": {"owner": "Augusta-King"}}, headers=operator).is_success
    system.settle()
    for name in (b"Lovelace", b"Augusta", b"ada@example.com"):
        assert name not in all_of(system)
        assert name.decode() not in serving.said()
    for number in range(PARTITIONS):
        assert not [
            field_name for field_name in system.projections.field_names([number], "index")[0] if "$secret" in field_name
        ]
    documents = subjects_in(system.log.client, 0)
    done = twinfold(system, "erase", "device", "d1", "--tags", "--reason", "Ada asked", "--by", "user:dpo", "--yes")
    assert (done.returncode, "3 secrets of device:d1 are erased" in done.stdout) == (0, True), done.stderr
    (event,) = system.log.read(FLEET, after=system.log.head(FLEET) - 1, limit=1)
    assert (str(event.by), getattr(event.event, "of", ""), getattr(event.event, "reason", "")) == (
        "user:dpo",
        "device:d1",
        "Ada asked",
    )
    own = http.get("/v1/devices/d1/personal", headers=admin).json()
    assert own == {"deviceId": "d1", "tags": {}, "erased": ["contact.mail", "owner"]}
    assert http.get("/twins/d1", headers=reader).json()["tags"]["owner"] == "***"
    assert subjects_in(system.log.client, 0) == documents
    system.settle()
    assert_rebuilt(system)
    again = twinfold(system, "erase", "device", "d1", "--tags", "--reason", "twice", "--yes")
    assert (again.returncode, "it has no secret to erase" in again.stderr) == (1, True)
    # Its keys are others, and go on working.
    assert http.get("/devices/d1/modules", headers=serving.device("d1")).is_success


def test_what_is_in_use_is_erased_by_insisting_alone_with_a_reason_and_former_keys_count(serving: Guarded) -> None:
    system, http = serving.system, serving.http
    serving.register("d1")
    insisting = ("erase", "device", "d1", "--even-in-use", "--yes")
    assert twinfold(system, *insisting).returncode == 2
    blank = twinfold(system, *insisting, "--reason", " ")
    assert (blank.returncode, "reason" in blank.stderr) == (1, True)
    nobody = twinfold(system, "erase", "webhook", "none", "--reason", "x", "--yes")
    assert (nobody.returncode, "check the name" in nobody.stderr) == (1, True)
    refused = twinfold(system, "erase", "device", "d1", "--reason", "gone", "--yes")
    assert (refused.returncode, "device:d1 (registered)" in refused.stderr) == (1, True)
    assert http.delete("/devices/d1", headers=serving.policy() | {"If-Match": "*"}).is_success
    done = twinfold(system, "erase", "device", "d1", "--reason", "gone", "--yes")
    assert (done.returncode, done.stdout.startswith("2 secrets")) == (0, True), done.stderr


@pytest.mark.full
def test_where_the_keys_of_one_device_are_erased_all_others_show_theirs_and_keep_them(serving: Guarded) -> None:
    owner, http = serving.policy(), serving.http
    names = ("d1", "d2", "d3")
    keys = {name: serving.register(name)["authentication"]["symmetricKey"] for name in names}
    insisting = ("erase", "device", "d1", "--even-in-use", "--yes", "--reason", "lost")
    assert twinfold(serving.system, *insisting).returncode == 0
    shown = {one["deviceId"]: one for one in http.get("/devices", headers=owner).json()}
    wanted = {**keys, "d1": {"primaryKey": None, "secondaryKey": None}}
    assert {name: shown[name]["authentication"]["symmetricKey"] for name in names} == wanted
    assert http.get("/devices/d1", headers=owner).json()["authentication"]["symmetricKey"] == wanted["d1"]
    back = http.put("/devices/d2", json={**shown["d2"], "statusReason": "seen"}, headers={**owner, "If-Match": "*"})
    assert back.json()["authentication"]["symmetricKey"] == keys["d2"]


def with_password(password: str) -> dict[str, Any]:
    """A manifest whose agent logs in to a registry."""
    content = base("m")
    runtime = {"type": "docker", "settings": {"registryCredentials": {"r": registry(password)}}}
    content["modulesContent"]["$edgeAgent"]["properties.desired"]["runtime"] = runtime
    return content


def registry(password: str) -> dict[str, str]:
    return {"address": "registry.example", "username": "puller", "password": password}


def erased(system: System, kind: str, subject: str) -> subprocess.CompletedProcess[str]:
    return twinfold(system, "erase", kind, subject, "--reason", "it leaked", "--yes")


def assert_gone(serving: Guarded, ids: tuple[str, ...], plain: bytes) -> None:
    """The newest event names these secrets, nobody can open them, and the plain text is nowhere."""
    (event,) = serving.system.log.read(FLEET, after=serving.system.log.head(FLEET) - 1, limit=1)
    assert getattr(event.event, "ids", ()) == ids
    store = RedisSecretStore(serving.system.log.client)
    for secret_id in ids:
        with pytest.raises(SecretErased):
            store.sealed([secret_id])
    assert plain not in all_of(serving.system)


@pytest.mark.full
def test_the_passwords_of_a_deployment_are_erased_once_nothing_has_them(serving: Guarded) -> None:
    system, http, operator = serving.system, serving.http, serving.token("operate")
    serving.register("d1", capabilities={"iotEdge": True})
    body = {"content": with_password("hunter2"), "targetCondition": "*"}
    made = http.post("/v1/deployments/a", json=body, headers=operator)
    assert made.is_success, made.text
    (stored,) = system.log.load(["a"], fleet=True)
    ids = tuple(sorted(references(msgspec.json.decode(stored.snapshot or b""))))
    assert len(ids) == 1
    system.settle()
    refused = erased(system, "deployment", "a")
    assert (refused.returncode, "in use by device:d1 (still run it), a;" in refused.stderr) == (1, True)
    assert http.delete("/configurations/a", headers=serving.policy() | {"If-Match": "*"}).is_success
    system.settle()
    # It keeps what it had last, as nothing else targets it.
    refused = erased(system, "deployment", "a")
    assert (refused.returncode, "in use by device:d1 (still run it);" in refused.stderr) == (1, True)
    other = {"content": base("m"), "targetCondition": "*"}
    assert http.post("/v1/deployments/b", json=other, headers=operator).is_success
    system.settle()
    done = erased(system, "deployment", "a")
    assert (done.returncode, done.stdout[:32]) == (0, "1 secrets of deployment:a are er"), done.stderr
    assert_gone(serving, ids, b"hunter2")
    assert_rebuilt(system)
    again = erased(system, "deployment", "a")
    assert (again.returncode, "it has no secret to erase" in again.stderr) == (1, True)


@pytest.mark.full
def test_devices_that_run_a_deleted_deployment_are_named_and_go_on_without_its_passwords_when_somebody_insists(
    serving: Guarded,
) -> None:
    system, http, operator = serving.system, serving.http, serving.token("operate")
    names = [f"d{number}" for number in range(7)]
    for name in (*names, "gone"):
        serving.register(name, capabilities={"iotEdge": True})
    body = {"content": with_password("hunter2"), "targetCondition": "*"}
    assert http.post("/v1/deployments/a", json=body, headers=operator).is_success
    system.settle()
    for path in ("/configurations/a", "/devices/gone"):
        assert http.delete(path, headers=serving.policy() | {"If-Match": "*"}).is_success
    system.settle()
    refused = erased(system, "deployment", "a")
    named, _, rest = refused.stderr.partition("in use by device:")[2].partition(" and ")
    assert (refused.returncode, rest.startswith("2 more (still run it);")) == (1, True), refused.stderr
    assert len(set(named.split(", ")) & set(names)) == 5
    own = serving.device("d1")
    before = http.get("/v1/devices/d1/desired", headers=own).json()
    assert "hunter2" in str(before)
    insisting = ("erase", "deployment", "a", "--even-in-use", "--yes", "--reason", "it leaked")
    assert twinfold(system, *insisting).returncode == 0
    after = http.get("/v1/devices/d1/desired", headers=own)
    assert after.status_code == 200, after.text
    assert str(after.json()) == str(before).replace("hunter2", "***")


@pytest.mark.full
def test_all_secrets_that_a_webhook_ever_had_are_erased_once_it_is_deleted(serving: Guarded) -> None:
    system, http, admin = serving.system, serving.http, serving.token("admin")
    for query in ("token=hunter2", "token=hunter3"):
        made = http.put("/v1/webhooks/siem", json={"url": f"https://hooks.example/x?{query}"}, headers=admin)
        assert made.is_success, made.text
    refused = erased(system, "webhook", "siem")
    assert (refused.returncode, "in use by" in refused.stderr) == (1, True)
    assert http.delete("/v1/webhooks/siem", headers=admin).is_success
    done = erased(system, "webhook", "siem")
    assert (done.returncode, done.stdout.split(" are ")[0]) == (0, "3 secrets of webhook:siem"), done.stderr
    (event,) = system.log.read(FLEET, after=system.log.head(FLEET) - 1, limit=1)
    assert_gone(serving, tuple(getattr(event.event, "ids", ())), b"hunter")


@pytest.fixture
def system(shared_redis: EmbeddedRedis) -> Iterator[System]:
    with fresh_system(shared_redis, waking=False) as system:
        yield system


def erased_by(log: RedisLog) -> RedisSecretStore:
    store = RedisSecretStore(log.client)
    store.put_many({"s1": Sealed(b"k", b"c", "id")})
    erase(log, store, Producer(log, by=DPO), Erasable("device:d1", ("s1",), ()), reason="asked for")
    return store


def test_where_the_file_of_redis_is_not_written_anew_that_is_said_after_all_else_is_done(system: System) -> None:
    client: Any = system.log.client
    client.acl_setuser(
        "narrow", enabled=True, passwords=["+p"], keys=["*"], channels=["*"], commands=["+@all", "-bgrewriteaof"]
    )
    try:
        log = open_log(system.url.replace("://", "://narrow:p@"), allow_volatile=True)
        with contextlib.closing(log.client), pytest.raises(FileKeepsErased, match="run BGREWRITEAOF"):
            erased_by(log)
    finally:
        client.acl_deluser("narrow")
    assert list(RedisSecretStore(client).ids()) == []


@pytest.mark.full
def test_every_server_of_a_cluster_is_asked(cluster_url: str) -> None:
    with contextlib.closing(connect(cluster_url)) as client:
        flush(client)
    log = initialise(cluster_url, partitions=2, allow_volatile=True, at=1)
    assert list(erased_by(log).ids()) == []
    log.client.close()
