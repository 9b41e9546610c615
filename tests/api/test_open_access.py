"""With open access, programs of this machine may do everything, and web pages nothing."""

import re
from collections.abc import Iterator

import httpx
import pytest

from services.embedded_redis import EmbeddedRedis
from tests.api.serving import api, written
from tests.workers.system import System, fresh_system

pytestmark = pytest.mark.redis_server

PATCH = {"content": b'{"tags": {"site": "north"}}'}
LINE = b'{"command": "RegisterDevice", "device_id": "edge-9"}'
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def system(shared_redis: EmbeddedRedis) -> Iterator[System]:
    with fresh_system(shared_redis) as fresh:
        yield fresh


@pytest.fixture(scope="module")
def http(system: System) -> Iterator[httpx.Client]:
    with api(system) as client:
        client.put("/devices/edge-1", json={}).raise_for_status()
        yield client


def port(http: httpx.Client) -> int:
    assert http.base_url.port is not None
    return http.base_url.port


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LocalHost", "[::1]"])
def test_a_host_of_loopback_is_answered_with_and_without_a_port(http: httpx.Client, name: str) -> None:
    for host in (name, f"{name}:{port(http)}"):
        assert http.get("/devices/edge-1", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["example.com", "127.0.0.1.example.com", "localhost.", "127.0.0.2", "127.0.0.1@example.com:x", "[::1", "a b"],
)
def test_any_other_host_is_refused(http: httpx.Client, host: str) -> None:
    for path in ("/devices/edge-1", "/v1/devices", "/docs", "/readyz"):
        answer = http.get(path, headers={"Host": host})
        assert (answer.status_code, answer.headers["iothub-errorcode"]) == (403, "Forbidden")
        assert "127.0.0.1 or ::1 or localhost" in answer.text


@pytest.mark.parametrize("origin", ["https://example.com", "null", "http://localhost", "http://127.0.0.1:1", "x"])
def test_a_page_of_another_origin_is_refused(system: System, http: httpx.Client, origin: str) -> None:
    heads = written(system)
    headers = {"Origin": origin, **JSON}
    for answer in (
        http.patch("/twins/edge-1", headers=headers, **PATCH),
        http.get("/v1/devices", headers=headers),
        http.delete("/devices/edge-1", headers={**headers, "If-Match": "*"}),
    ):
        assert (answer.status_code, answer.headers["iothub-errorcode"]) == (403, "Forbidden")
    assert written(system) == heads


def test_a_page_of_the_api_itself_is_answered(http: httpx.Client) -> None:
    own = {"Origin": f"http://127.0.0.1:{port(http)}", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert http.get("/v1/devices", headers=own).status_code == 200
    assert http.put("/devices/edge-2", json={}, headers=own).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_a_foreign_page_loads_is_refused_and_a_link_to_the_reference_works(http: httpx.Client, site: str) -> None:
    image = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    assert http.get("/v1/devices/edge-1/desired", headers=image).status_code == 403
    link = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert http.get("/docs", headers=link).status_code == 200
    assert http.post("/v1/deployments/x/start", headers=link).status_code == 403


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json"]
)
def test_a_body_that_is_not_declared_as_json_is_refused(http: httpx.Client, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    for answer in (
        http.patch("/twins/edge-1", headers=headers, **PATCH),
        http.post("/v1/events", headers=headers, content=LINE),
        http.post("/v1/events", headers=headers, content=iter([LINE])),
    ):
        assert (answer.status_code, answer.headers["iothub-errorcode"]) == (415, "UnsupportedMediaType")
        assert "application/json" in answer.text
    assert http.get("/devices/edge-9").status_code == 404


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"]
)
def test_a_body_that_is_declared_as_json_is_read(http: httpx.Client, content_type: str) -> None:
    answer = http.patch("/twins/edge-2", headers={"Content-Type": content_type}, **PATCH)
    assert answer.status_code in {200, 404}


def test_a_write_without_a_body_needs_no_content_type(http: httpx.Client) -> None:
    http.put("/devices/edge-3", json={}).raise_for_status()
    assert http.delete("/devices/edge-3", headers={"If-Match": "*"}).status_code == 204


def test_the_reference_loads_nothing_from_elsewhere_and_runs_no_script_of_the_page(http: httpx.Client) -> None:
    page = http.get("/docs")
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    loaded = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert loaded
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|://", page.text)
    for path in loaded:
        file = http.get(path)
        assert file.status_code == 200, path
        assert file.headers["x-content-type-options"] == "nosniff"
    assert "SwaggerUIBundle" in http.get("/docs/swagger-ui-bundle.js").text
    assert http.get("/docs/core.py").status_code == 404
    assert http.get("/redoc").status_code == 404
