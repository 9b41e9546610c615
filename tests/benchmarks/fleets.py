"""Synthetic fleets for the benchmarks: devices, tags, deployments and agent reports, as events ready to append."""

import random
from collections.abc import Iterator
from typing import Any

import msgspec

from events.log.keys import partition_of

ENVIRONMENTS = [f"env-{number}" for number in range(10)]
SITES = [f"site-{number:03d}" for number in range(200)]
LINES = [f"line-{number}" for number in range(50)]


def tags_of(draw: random.Random) -> dict[str, Any]:
    """Five tags, of the cardinalities a factory has."""
    return {
        "environment": draw.choice(ENVIRONMENTS),
        "site": draw.choice(SITES),
        "line": draw.choice(LINES),
        "generation": draw.randrange(1, 6),
        "camera": draw.random() < 0.2,
    }


def device_ids(count: int) -> Iterator[str]:
    """Ids as fleets name them."""
    for number in range(count):
        yield f"edge-{number:07d}"


def ids_in_partition(count: int, *, partition: int, partitions: int) -> list[str]:
    """The first ids that live in one partition."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        device_id = f"edge-{number:07d}"
        if partition_of(device_id, partitions) == partition:
            found.append(device_id)
        number += 1
    return found


def content(name: str, *, layered: bool) -> dict[str, Any]:
    """A deployment's content of a realistic size."""
    module = {
        "type": "docker",
        "status": "running",
        "restartPolicy": "always",
        "version": "1.0",
        "settings": {"image": f"registry.example.com/{name}:1.0.0", "createOptions": "{}"},
    }
    if layered:
        return {
            "modulesContent": {
                "$edgeAgent": {f"properties.desired.modules.{name}": module},
                "$edgeHub": {f"properties.desired.routes.{name}": f"FROM /messages/modules/{name}/* INTO $upstream"},
            }
        }
    system = {
        "edgeAgent": {
            "type": "docker",
            "settings": {"image": "registry.example.com/agent:1.5.0", "createOptions": "{}"},
        },
        "edgeHub": {
            "type": "docker",
            "status": "running",
            "restartPolicy": "always",
            "settings": {"image": "registry.example.com/hub:1.5.0", "createOptions": "{}"},
        },
    }
    return {
        "modulesContent": {
            "$edgeAgent": {
                "properties.desired": {
                    "schemaVersion": "1.1",
                    "runtime": {"type": "docker", "settings": {"minDockerVersion": "v1.25"}},
                    "systemModules": system,
                    "modules": {"main": module},
                }
            },
            "$edgeHub": {
                "properties.desired": {
                    "schemaVersion": "1.1",
                    "routes": {"up": "FROM /messages/* INTO $upstream"},
                    "storeAndForwardConfiguration": {"timeToLiveSecs": 7200},
                }
            },
        }
    }


def condition(number: int, draw: random.Random) -> str:
    """Conditions of several shapes and selectivities."""
    site, line, environment = draw.choice(SITES), draw.choice(LINES), draw.choice(ENVIRONMENTS)
    match number % 5:
        case 0:
            return f"tags.site = '{site}'"
        case 1:
            return f"tags.environment = '{environment}' AND tags.line = '{line}'"
        case 2:
            return f"tags.site = '{site}' OR tags.line = '{line}'"
        case 3:
            return f"tags.environment = '{environment}' AND tags.generation >= {draw.randrange(2, 6)}"
        case _:
            return f"tags.line = '{line}' AND tags.camera = true AND NOT tags.environment = '{environment}'"


def deployments(count: int, seed: int = 7) -> Iterator[tuple[str, dict[str, Any], str, int]]:
    """(id, content, condition, priority): 1 in 20 is a layer, the rest compete as bases."""
    draw = random.Random(seed)
    for number in range(count):
        layered = number % 20 == 19
        name = f"{'layer' if layered else 'base'}-{number:05d}"
        priority = draw.randrange(1000, 2000) if layered else draw.randrange(0, 1000)
        yield name, content(f"m{number % 20}", layered=layered), condition(number, draw), priority


def agent_report(version: int = 2) -> dict[str, Any]:
    """A report of an edge agent, about 2 KB of JSON."""
    modules = {
        f"module{number}": {
            "exitCode": 0,
            "statusDescription": "running",
            "lastStartTimeUtc": "2026-01-01T00:00:00Z",
            "lastExitTimeUtc": "0001-01-01T00:00:00Z",
            "restartCount": 0,
            "runtimeStatus": "running",
            "version": "1.0",
            "status": "running",
            "restartPolicy": "always",
            "type": "docker",
            "settings": {"image": f"registry.example.com/module{number}:1.0.0", "imageHash": "sha256:" + "0" * 24},
        }
        for number in range(5)
    }
    report = {
        "schemaVersion": "1.0",
        "lastDesiredVersion": version,
        "lastDesiredStatus": {"code": 200, "description": ""},
        "systemModules": {"edgeAgent": {"runtimeStatus": "running"}, "edgeHub": {"runtimeStatus": "running"}},
        "modules": modules,
    }
    assert 1500 < len(msgspec.json.encode(report)) < 2600
    return report
