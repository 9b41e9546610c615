"""`/v1/webhooks`: who may, what is refused, and that a refusal leaves nothing behind."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from services.embedded_redis import EmbeddedRedis
from tests.api.serving import Guarded, guarded
from tests.workers.system import fresh_system

pytestmark = pytest.mark.redis_server

URL = "https://hooks.example/twinfold"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(scope="module")
def gate(shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with fresh_system(shared_redis) as system, guarded(system, tmp_path_factory.mktemp("webhooks")) as serving:
        yield serving


@pytest.fixture(scope="module")
def admin(gate: Guarded) -> dict[str, str]:
    return gate.token("admin")


def put(gate: Guarded, headers: dict[str, str], webhook_id: str = "siem", **body: Any) -> httpx.Response:
    return gate.http.put(f"/v1/webhooks/{webhook_id}", json={"url": URL, **body}, headers=headers)


def test_a_secret_is_shown_once_and_never_in_what_is_stored_or_said(gate: Guarded, admin: dict[str, str]) -> None:
    made = put(gate, admin, url=f"{URL}?token=hunter2").json()
    assert made["secret"].startswith("whsec_")
    own = put(gate, admin, "mine", secret=SECRET).json()
    changed = put(gate, admin, url=f"{URL}?token=hunter3", kinds=["AssignmentChange"]).json()
    listed = gate.http.get("/v1/webhooks", headers=admin).json()
    assert [one["id"] for one in listed] == ["mine", "siem"]
    assert {one["secret"] for one in (own, changed, *listed)} == {"***"}
    assert changed["url"] == f"{URL}?***"
    shown = gate.http.get("/v1/webhooks/siem", headers=admin).json()
    assert (shown["kinds"], shown["paused"], shown["failures"], shown["error"]) == (["AssignmentChange"], None, 0, None)
    gate.http.post("/v1/webhooks/siem/test", headers=admin).raise_for_status()
    stream = gate.http.get("/v1/stream", params={"follow": "false", "from": "start"}, headers=admin).text
    assert '"query":"***"' in stream
    client = gate.system.log.client
    log = b"".join(b"".join(fields.values()) for _, fields in client.xrange("{fleet}:log"))  # type: ignore[union-attr]
    for secret in ("hunter2", "hunter3", made["secret"], SECRET):
        assert secret not in stream
        assert secret not in gate.said()
        assert secret not in str(listed)
        assert secret.encode() not in log


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"url": "https://user:hunter2@hooks.example/"}, "`url` holds no user and no password"),
        ({"url": "gopher://hooks.example/"}, "`url` begins with https://"),
        ({"url": "https://127.1/"}, "`url` has a host name"),
        ({"url": "https://[oops/"}, "`url` has a host or a port that cannot be read"),
        ({"url": "https://127.0.0.1/"}, "url leads to 127.0.0.1, which is not a public address"),
        ({"url": "https://[::1]/"}, "url leads to ::1"),
        ({"url": "https://169.254.169.254/latest"}, "TWINFOLD_WEBHOOK_PRIVATE_TARGETS"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "not a public address"),
        ({"url": "https://localhost:8080/"}, "not a public address"),
        ({"url": "http://hooks.example/"}, "plain http"),
        ({"url": f"{URL}?a b"}, "url: a secret in a query"),
        ({"url": 5}, "url"),
        ({"secret": "hunter2"}, "secret: a secret for signing must be whsec_"),
        ({"kinds": ["Everything"]}, "`kinds` has the unknown kind 'Everything'; allowed are AdmissionChanged"),
        ({"kinds": "AssignmentChange"}, "kinds"),
        ({"devices": [""]}, "`devices` has at most 100 names"),
        ({"deployments": ["x"] * 101}, "`deployments` has at most 100 names"),
    ],
)
def test_bad_input_is_refused_by_element_and_rule_and_leaves_nothing(
    gate: Guarded, admin: dict[str, str], body: dict[str, Any], said: str
) -> None:
    heads = gate.system.log.heads()
    answer = put(gate, admin, "bad", **body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "ArgumentInvalid")
    assert said in answer.json()["error"]["message"]
    assert "hunter2" not in answer.text
    assert gate.system.log.heads() == heads


def test_what_is_not_there_is_not_found(gate: Guarded, admin: dict[str, str]) -> None:
    def status(method: str, path: str, **how: Any) -> int:
        return gate.http.request(method, f"/v1/webhooks/none{path}", headers=admin, **how).status_code

    asked = [status("GET", ""), status("DELETE", ""), status("GET", "/deliveries"), status("POST", "/test")]
    assert [*asked, status("POST", "/resume"), status("POST", "/pause", json={"why": "x"})] == [404] * 6


def test_a_webhook_is_its_admins_affair(gate: Guarded) -> None:
    for headers in (gate.token("operate"), gate.policy("service"), gate.policy("registryReadWrite"), {}):
        assert put(gate, headers, "theirs").status_code == 401
        assert gate.http.get("/v1/webhooks", headers=headers).status_code == 401
