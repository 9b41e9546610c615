"""Every read of an API at a quiet moment, to be held against what is answered for that moment later."""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import msgspec

from tests.workers.system import System

NAMES = {
    "device_id": ("a", "b", "c", "d", "gone", "nobody"),
    "module_id": ("$edgeAgent", "temp", "byhand"),
    "deployment": ("one", "two", "none"),
    "group": ("north", "mine"),
    "provider": ("contoso",),
    "version": ("1.0", "2.0"),
    "webhook_id": ("siem", "none"),
    "rule": ("privileged", "image-tag", "none"),
}
DEPLOYMENTS = ("base", "extra", "phased", "later", "of-module", "of-device", "none")
BY_PATH = (
    (r"/v1/updates/.*", {"name": ("camera",)}),
    (r"/v1/waivers/.*", {"name": ("w1", "none")}),
    (r".*/status/\{which\}", {"name": DEPLOYMENTS, "which": ("target", "actual", "healthy", "unhealthy", "unknown")}),
    (r".*/rollout/devices/\{which\}", {"name": DEPLOYMENTS, "which": ("target", "healthy", "already", "failed")}),
    (r".*", {"name": DEPLOYMENTS}),
)
QUERIES = (
    "SELECT * FROM devices",
    "SELECT deviceId, tags FROM devices WHERE tags.site = 'north'",
    "SELECT * FROM devices.modules",
    "SELECT COUNT() AS n FROM devices GROUP BY tags.site",
)


class Answered(msgspec.Struct, frozen=True):
    """An answer as far as a moment determines it: a continuation is sealed anew each time."""

    status: int
    body: Any
    etag: str | None


def paths(description: dict[str, Any]) -> Iterator[str]:
    """Every read that takes `at`, with names for its variables."""
    for path, item in description["paths"].items():
        if "at" not in {one["name"] for one in item.get("get", {}).get("parameters", ())}:
            continue
        variables = re.findall(r"\{(\w+)\}", path)
        known = {**NAMES, **next(more for pattern, more in BY_PATH if re.fullmatch(pattern, path))}
        for values in itertools.product(*(known[one] for one in variables)):
            full = path
            for variable, value in zip(variables, values, strict=True):
                full = full.replace(f"{{{variable}}}", value)
            yield full


def look(http: httpx.Client, asked: Sequence[str], **params: str) -> dict[str, Answered]:
    """The answers to some reads and to some queries."""
    found = {path: _answered(http.get(path, params=params)) for path in asked}
    return found | {query: _queried(http, query, params) for query in QUERIES}


def _queried(http: httpx.Client, query: str, params: dict[str, str]) -> Answered:
    """All rows: how many of them come at a time depends on how long finding them takes."""
    rows: list[Any] = []
    headers: dict[str, str] = {}
    while True:
        answer = http.post("/devices/query", json={"query": query}, params=params, headers=headers)
        rows += answer.raise_for_status().json()
        more = answer.headers.get("x-ms-continuation")
        if more is None:
            return Answered(answer.status_code, rows, answer.headers.get("etag"))
        headers = {"x-ms-continuation": more}


def _answered(answer: httpx.Response) -> Answered:
    assert answer.status_code < 500, answer.text
    body = answer.json() if answer.content else None
    if answer.is_success:
        return Answered(answer.status_code, _determined(body), answer.headers.get("etag"))
    return Answered(answer.status_code, None, None)


_OF_DELIVERIES = dict.fromkeys(("lag", "failures", "failingSince", "nextAttemptAt", "error"))


def _determined(body: Any) -> Any:
    """A body without what is not history: how deliveries fare, and the nonce of a continuation."""
    if isinstance(body, list):
        return [_determined(one) for one in body]
    if isinstance(body, dict) and "failingSince" in body:
        return {**body, **_OF_DELIVERIES}
    if isinstance(body, dict) and body.get("continuation"):
        return {**body, "continuation": "some"}
    return body


def vector(system: System, now: int) -> str:
    """The moment that is now, as `at` takes it."""
    heads = system.log.heads()
    names = {stream: "fleet" if stream < 0 else f"p{stream:02}" for stream in heads}
    return ",".join([*(f"{names[one]}:{position}" for one, position in sorted(heads.items())), f"time:{now}"])
