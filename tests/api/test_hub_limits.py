"""The limits and rules of the hub's contract at the edge (contract/hub.md §1.3, §6): what fits is taken, one more is refused."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from services.embedded_redis import EmbeddedRedis
from tests.api.serving import served
from tests.workers.system import base, layer

pytestmark = pytest.mark.redis_server


@pytest.fixture(scope="module")
def http(shared_redis: EmbeddedRedis) -> Iterator[httpx.Client]:
    with served(shared_redis) as (_, client):
        client.put("/devices/d", json={"capabilities": {"iotEdge": True}}).raise_for_status()
        yield client


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.headers.get("iothub-errorcode", "")


class Limit(NamedTuple):
    """A request that is at a limit, and one that is just over it."""

    name: str
    method: str
    path: str
    fits: Any
    over: Any
    refused: tuple[int, str] = (400, "ArgumentInvalid")


def nested(depth: int) -> Any:
    """An object with a scalar in its tenth, or another, object."""
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def filled(size_bytes: int) -> dict[str, str]:
    """An object that counts as so many bytes: keys of three characters, strings of 4,093 at most."""
    whole, rest = divmod(size_bytes, 4096)
    return {
        **{f"a{number:02}": "x" * 4093 for number in range(whole)},
        **({"zzz": "x" * (rest - 3)} if rest > 3 else {}),
    }


def tags(value: Any) -> Any:
    return {"tags": value}


def desired(value: Any) -> Any:
    return {"properties": {"desired": value}}


def with_modules(count: int) -> Any:
    return {"content": base(*(f"m{number}" for number in range(count)))}


def with_metrics(count: int) -> Any:
    return {"content": base("m"), "metrics": {"queries": {f"q{number}": "select *" for number in range(count)}}}


def query(length: int) -> Any:
    text = "select * from devices where tags.a = ''"
    return {"query": f"{text[:-1]}{'x' * (length - len(text))}'"}


INVALID_CONTENT = (400, "InvalidConfigurationContent")
TWIN, REPORT, DEPLOYMENT = ("PUT", "/twins/d"), ("POST", "/v1/devices/d/reports"), ("PUT", "/configurations/{fresh}")

LIMITS = [
    Limit("tags-bytes", *TWIN, tags(filled(8192)), tags(filled(8200))),
    Limit("desired-bytes", *TWIN, desired(filled(32768)), desired(filled(32776))),
    Limit("reported-bytes", *REPORT, {"patch": filled(32768)}, {"patch": filled(32776)}),
    Limit("string-bytes", *TWIN, tags({"a": "x" * 4096}), tags({"a": "é" * 2049})),
    Limit("key-bytes", *TWIN, tags({"k" * 1024: 1}), tags({"k" * 1025: 1})),
    Limit("key-dot", *TWIN, tags({"a-b": 1}), tags({"a.b": 1})),
    Limit("key-dollar", *TWIN, tags({"": 1}), tags({"a$": 1})),
    Limit("key-space", *TWIN, tags({"a_b": 1}), tags({"a b": 1})),
    Limit("key-hash", *TWIN, tags({"a": 1}), tags({"a#": 1})),
    Limit("key-control", *TWIN, tags({"a": 1}), tags({"a\u0001": 1})),
    Limit("depth", *TWIN, desired(nested(10)), desired(nested(12))),
    Limit("integer-high", *TWIN, tags({"a": 2**52 - 1}), tags({"a": 2**52})),
    Limit("integer-low", *TWIN, tags({"a": -(2**52) + 1}), tags({"a": -(2**52) - 1})),
    Limit("array-null", *TWIN, tags({"a": [1, {"b": 2}]}), tags({"a": [1, None]})),
    Limit("modules", *DEPLOYMENT, with_modules(50), with_modules(51), INVALID_CONTENT),
    Limit("metrics", *DEPLOYMENT, with_metrics(5), with_metrics(6), (400, "InvalidConfigurationCustomMetricsQuery")),
    Limit(
        "priority-high", *DEPLOYMENT, {**with_modules(1), "priority": 2**31 - 1}, {**with_modules(1), "priority": 2**31}
    ),
    Limit("priority-low", *DEPLOYMENT, {**with_modules(1), "priority": 0}, {**with_modules(1), "priority": -1}),
    Limit("query-characters", "POST", "/devices/query", query(8192), query(8193)),
    Limit(
        "bulk",
        "POST",
        "/devices",
        [{"id": f"bulk-{number}"} for number in range(100)],
        [{"id": f"more-{number}"} for number in range(101)],
    ),
]


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_what_is_at_a_limit_fits_and_what_is_over_it_does_not(http: httpx.Client, limit: Limit) -> None:
    fits = http.request(limit.method, limit.path.format(fresh=f"{limit.name}-fits"), json=limit.fits)
    assert fits.is_success, fits.text
    over = http.request(limit.method, limit.path.format(fresh=f"{limit.name}-over"), json=limit.over)
    assert told(over) == limit.refused


@pytest.mark.parametrize("path", ["/devices/{}", "/devices/d/modules/{}"], ids=["device", "module"])
def test_ids_have_128_characters_of_a_few_kinds(http: httpx.Client, path: str) -> None:
    for name in ("x" * 128, "Aa0-:.+%25_%23*%3F!(),=@;$'"):
        assert http.put(path.format(name), json={}).status_code == 200, name
    for name in ("x" * 129, "a%20b", "a&b", "é", "a%5Cb", 'a"b'):
        assert told(http.put(path.format(name), json={})) == (400, "ArgumentInvalid"), name
    # Whether letters are small or not makes a difference.
    assert http.put(path.format("X" * 128), json={}).status_code == 200


@pytest.mark.parametrize("top", [1, 1000, 0, 1001, -5])
def test_a_number_of_devices_that_no_page_has_is_a_thousand(http: httpx.Client, top: int) -> None:
    listed = http.get("/devices", params={"top": top}).raise_for_status().json()
    assert len(listed) <= (1 if top == 1 else 1000)


def test_a_device_has_50_modules_made_by_hand_at_most(http: httpx.Client) -> None:
    http.put("/devices/full", json={"capabilities": {"iotEdge": True}}).raise_for_status()
    for number in range(50):
        http.put(f"/devices/full/modules/m{number}", json={}).raise_for_status()
    one_more = http.put("/devices/full/modules/more", json={})
    assert (told(one_more), one_more.json()["errorCode"]) == ((413, "TooManyModulesOnDevice"), 413003)
    assert told(http.put("/devices/full/modules/m0", json={})) == (409, "ModuleAlreadyExistsOnDevice")
    assert http.put("/devices/full/modules/m0", json={}, headers={"If-Match": "*"}).status_code == 200
    http.delete("/devices/full/modules/m0", headers={"If-Match": "*"}).raise_for_status()
    assert http.put("/devices/full/modules/more", json={}).status_code == 200


# -- the table of §1.3

CONTENT = base("m")["modulesContent"]
ROUTE = "properties.desired.routes.r"
TAKEN = {
    "id": {"id": "a-z0+%_*!'"},
    "id-long": {"id": "x" * 128},
    "layered": {"content": {"modulesContent": {"$edgeAgent": {}, "$edgeHub": {ROUTE: "FROM /* INTO $upstream"}}}},
    "layer": {"content": layer("extra", rate=1)},
    "condition-everyone": {"targetCondition": "*"},
    "condition-nobody": {"targetCondition": ""},
    "condition-null": {"targetCondition": None},
    "condition-reported": {"targetCondition": "properties.reported.model = '4000x'"},
    "condition-implicit-and": {"targetCondition": "tags.a = 'x' NOT deviceId = 'y'"},
    "condition-is-defined": {"targetCondition": "is_defined(tags.a)"},
    "labels": {"labels": {"a": "b"}},
    "labels-null": {"labels": None},
    "metrics-null": {"metrics": None},
    "metrics-results": {"metrics": {"results": {"m": 5}, "queries": {"m": "select *"}}},
    "priority-default": {"priority": 0},
}
ARGUMENT, CONDITION = "ArgumentInvalid", "InvalidConfigurationTargetCondition"
WRONG_CONTENT, WRONG_METRIC = "InvalidConfigurationContent", "InvalidConfigurationCustomMetricsQuery"
REFUSED = {
    "id-upper": ({"id": "Upper"}, ARGUMENT),
    "id-long": ({"id": "x" * 129}, ARGUMENT),
    "id-dot": ({"id": "a.b"}, ARGUMENT),
    "id-space": ({"id": "a b"}, ARGUMENT),
    "content-missing": ({"content": None}, WRONG_CONTENT),
    "content-empty": ({"content": {}}, WRONG_CONTENT),
    "content-both": ({"content": {**base("m"), "deviceContent": {"properties.desired.a": 1}}}, WRONG_CONTENT),
    "content-no-agent": ({"content": {"modulesContent": {"m": {"properties.desired": {}}}}}, WRONG_CONTENT),
    "content-tags": ({"content": {"modulesContent": {**CONTENT, "m": {"tags.x": 1}}}}, WRONG_CONTENT),
    "content-reported": (
        {"content": {"modulesContent": {**CONTENT, "m": {"properties.reported.a": 1}}}},
        WRONG_CONTENT,
    ),
    "condition-name": ({"targetCondition": "edgeDeviceVM"}, CONDITION),
    "condition-desired": ({"targetCondition": "properties.desired.a = 1"}, CONDITION),
    "condition-capabilities": ({"targetCondition": "capabilities.iotEdge = true"}, CONDITION),
    "condition-unparsable": ({"targetCondition": "tags.a =="}, CONDITION),
    "condition-in": ({"targetCondition": "tags.a IN ['x']"}, CONDITION),
    "condition-nin": ({"targetCondition": "tags.a NIN ['x']"}, CONDITION),
    "condition-double-quotes": ({"targetCondition": 'tags.a = "x"'}, CONDITION),
    "metric": ({"metrics": {"queries": {"m": "selct *"}}}, WRONG_METRIC),
    "priority-negative": ({"priority": -1}, ARGUMENT),
    "priority-fraction": ({"priority": 1.5}, ARGUMENT),
    "priority-boolean": ({"priority": True}, ARGUMENT),
    "label-number": ({"labels": {"a": 1}}, ARGUMENT),
    "label-null": ({"labels": {"a": None}}, ARGUMENT),
}


def put(http: httpx.Client, changes: dict[str, Any], name: str) -> httpx.Response:
    body = {"content": base("m"), "targetCondition": "tags.a = 'x'", "priority": 1, **changes}
    path = httpx.URL("/").copy_with(raw_path=b"/configurations/" + _encoded(changes.get("id", name)))
    return http.put(str(path), json=body)


def _encoded(name: str) -> bytes:
    return name.replace("%", "%25").replace(" ", "%20").encode()


@pytest.mark.parametrize("rule", TAKEN)
def test_a_configuration_that_keeps_the_rules_is_taken(http: httpx.Client, rule: str) -> None:
    made = put(http, TAKEN[rule], f"taken-{rule}")
    assert made.status_code == 200, made.text


@pytest.mark.parametrize("rule", REFUSED)
def test_a_configuration_that_breaks_one_is_refused_when_created_and_when_changed(
    http: httpx.Client, rule: str
) -> None:
    changes, code = REFUSED[rule]
    assert told(put(http, changes, f"refused-{rule}")) == (400, code)
    if "id" in changes or changes.get("content") is not None:
        return  # An update has the id of what is there, and lets its content pass.
    put(http, {}, "existing")
    body = {"content": base("m"), "targetCondition": "tags.a = 'x'", **changes}
    assert told(http.put("/configurations/existing", json=body, headers={"If-Match": "*"})) == (400, code)


def test_a_condition_for_everybody_can_be_stored_and_not_tried(http: httpx.Client) -> None:
    tried = http.post("/configurations/testQueries", json={"targetCondition": "*"}).raise_for_status().json()
    assert tried["targetConditionError"]


@pytest.mark.parametrize("module_id", ["$mine", "$edgeAgent", "$edgeHub", "$"])
def test_no_module_that_begins_with_a_dollar_is_made_by_hand(http: httpx.Client, module_id: str) -> None:
    assert told(http.put(f"/devices/d/modules/{module_id}", json={})) == (400, "ArgumentInvalid")
