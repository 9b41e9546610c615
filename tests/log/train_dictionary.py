"""Trains a dictionary for stored documents: `python -m tests.log.train_dictionary 2` writes events/log/dictionaries/2.zdict.

A dictionary is never changed once it is released, as stored documents need it. A better one gets the next number.
"""

import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from events import canonical
from events.device.events import (
    DeviceRegistered,
    DeviceUpdated,
    ModuleCreated,
    PropertiesReported,
    TwinPatched,
    TwinReplaced,
)
from events.device.state import begun_module, evolve_device, evolve_twin
from events.log.port import AT_APPEND

DICTIONARIES = Path(__file__).parents[2] / "events/log/dictionaries"
SIZE = 7_900
"""Bytes of a dictionary: deflate's window of 8 KiB holds it."""
DEVICES = 1000
_PIECE, _GRAM = 256, 8

_EPOCH_MS = 1_767_225_600_000
_REGISTRIES = (
    "mcr.microsoft.com",
    "registry.example.com",
    "contoso.azurecr.io",
    "docker.io/library",
    "ghcr.io/contoso",
)
_MODULES = (
    *("filter", "camera", "inference", "gateway", "telemetry", "opcpublisher", "modbus", "historian", "dashboard"),
    *("SimulatedTemperatureSensor", "azureiotedge-metrics-collector", "blobstorage", "influxdb", "mqtt-bridge", "main"),
)
_CREATE_OPTIONS = (
    *("", "{}", '{"HostConfig":{"Privileged":true}}', '{"HostConfig":{"NetworkMode":"host"},"NetworkingConfig":'),
    '{"HostConfig":{"Binds":["/srv/data:/data"],"LogConfig":{"Type":"json-file","Config":{"max-size":"10m","max-file":"3"}}}}',
    (
        '{"HostConfig":{"PortBindings":{"443/tcp":[{"HostPort":"443"}],"5671/tcp":[{"HostPort":"5671"}],'
        '"8883/tcp":[{"HostPort":"8883"}]}}}'
    ),
    '{"Hostname":"publisher","Cmd":["--pf=./pn.json","--aa"],"HostConfig":{"Memory":536870912}}',
)
_TAGS: dict[str, tuple[Any, ...]] = {
    "environment": ("prod", "production", "test", "staging", "dev", "env-1"),
    "site": ("berlin", "munich", "seattle", "site-001", "plant-7"),
    "location": ("north", "south", "building-3", {"plant": "Redmond43", "building": "7", "floor": 2}),
    "line": ("line-1", "line-12", "assembly"),
    "region": ("eu-west", "us-east", "westus2"),
    "country": ("de", "us", "fr"),
    "customer": ("contoso", "fabrikam"),
    "deviceType": ("gateway", "camera", "sensor"),
    "model": ("x100", "IPC-227E"),
    "ring": ("canary", "early", "broad", 0, 1, 2),
    "generation": (1, 2, 3, 4, 5),
    "camera": (True, False),
    "gpu": (True, False),
    "promoted": (True,),
    "ADUGroup": ("group1",),
    "hardware": ({"arch": "amd64", "cores": 4}, {"arch": "arm64", "cores": 8}),
}
_TELEMETRY: dict[str, tuple[Any, ...]] = {
    "firmware": ({"version": "1.2.3", "status": "applied"}, "2.0.1"),
    "telemetryConfig": ({"sendFrequency": "5m", "status": "success"},),
    "batteryLevel": (17, 55, 93),
    "temperature": (21.5, 48.0),
    "connectivity": ({"type": "cellular", "signal": -71}, {"type": "ethernet"}),
    "osVersion": ("Ubuntu 22.04.4 LTS", "Debian 12"),
    "deviceUpdate": ({"agent": {"state": 0, "deviceProperties": {"manufacturer": "contoso", "model": "x100"}}},),
}


def documents(seed: int) -> Iterator[bytes]:
    """Documents of devices, of their system modules and of their own modules, as the log stores them."""
    draw = random.Random(seed)  # noqa: S311 - the same documents each time
    for number in range(DEVICES):
        at = _EPOCH_MS + draw.randrange(10**10)
        edge = draw.random() < 0.8
        device = evolve_device(
            None, DeviceRegistered(edge, authentication=_authentication(draw)), version=1, at=AT_APPEND
        )
        yield canonical.encode(device)
        device = evolve_device(None, DeviceRegistered(edge, authentication=_authentication(draw)), version=1, at=at)
        device = evolve_device(device, TwinPatched(tags=_pick(draw, _TAGS, 6)), version=2, at=AT_APPEND)
        yield canonical.encode(device)
        device = evolve_device(
            evolve_device(device, TwinPatched(tags=_pick(draw, _TAGS, 2)), version=3, at=at + 5000),
            PropertiesReported(_pick(draw, _TELEMETRY, 3)),
            version=4,
            at=AT_APPEND,
        )
        yield canonical.encode(device)
        if number % 4 == 0:
            device = evolve_device(device, DeviceUpdated(edge, number % 8 == 0), version=5, at=at)
            device = evolve_device(
                device, ModuleCreated("sensor", authentication=_authentication(draw)), version=6, at=at
            )
            patched = PropertiesReported(_pick(draw, _TELEMETRY, 3))
            yield canonical.encode(evolve_device(device, patched, version=7, at=AT_APPEND))
        if not edge:
            continue
        agent, names = begun_module(device), draw.sample(_MODULES, draw.randrange(1, 8))
        reports = [_agent(draw, names, at)]
        reports += [_agent_patch(draw, names, at) for _ in range(draw.randrange(3))]
        for version, report in enumerate(reports, 1):
            stamp = AT_APPEND if version == len(reports) else at + 1000 * version
            agent = evolve_twin(agent, PropertiesReported(report), version=version, at=stamp)
        yield canonical.encode(agent)
        hub = PropertiesReported(_hub(draw, names, at))
        yield canonical.encode(evolve_twin(begun_module(device), hub, version=1, at=AT_APPEND))
        own = TwinReplaced(tags={}, desired=_pick(draw, _TELEMETRY, 2))
        module = evolve_twin(begun_module(device), own, version=1, at=at)
        own_report = PropertiesReported(_pick(draw, _TELEMETRY, 3))
        yield canonical.encode(evolve_twin(module, own_report, version=2, at=AT_APPEND))


def _pick(draw: random.Random, choices: dict[str, tuple[Any, ...]], most: int) -> dict[str, Any]:
    names = draw.sample(list(choices), min(most, len(choices)))
    return {name: draw.choice(choices[name]) for name in names[: draw.randrange(1, most + 1)]}


def _hex(draw: random.Random, digits: int) -> str:
    return f"{draw.getrandbits(4 * digits):0{digits}x}"


def _authentication(draw: random.Random) -> dict[str, Any]:
    match draw.randrange(4):
        case 0:
            prints = {name: _hex(draw, 40).upper() for name in ("primaryThumbprint", "secondaryThumbprint")}
            return {"type": "selfSigned", "x509Thumbprint": prints}
        case 1:
            return {"type": "certificateAuthority"}
        case _:
            keys = {name: {"$secret": _hex(draw, 32)} for name in ("primaryKey", "secondaryKey")}
            return {"type": "sas", "symmetricKey": keys}


def _time(draw: random.Random, at: int) -> str:
    day, rest = 1 + at // 86_400_000 % 28, draw.randrange(86_400)
    clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"2026-{draw.randrange(1, 13):02d}-{day:02d}T{clock}" + draw.choice(("Z", f".{draw.randrange(10**7):07d}Z"))


def _settings(draw: random.Random, name: str) -> dict[str, Any]:
    version = f"{draw.randrange(1, 4)}.{draw.randrange(6)}.{draw.randrange(20)}"
    settings = {"image": f"{draw.choice(_REGISTRIES)}/{name}:{version}", "imageHash": f"sha256:{_hex(draw, 64)}"}
    return settings if draw.random() < 0.3 else {**settings, "createOptions": draw.choice(_CREATE_OPTIONS)}


def _state(draw: random.Random, at: int) -> dict[str, Any]:
    """The members of a module that change while it runs (contract/edge.md §1.2)."""
    runs = draw.random() < 0.9
    never = "0001-01-01T00:00:00" + draw.choice(("", "Z"))
    return {
        "exitCode": 0 if runs else 1,
        "lastExitTimeUtc": never if runs else _time(draw, at),
        "lastStartTimeUtc": _time(draw, at),
        "restartCount": 0 if runs else draw.randrange(1, 20),
        "runtimeStatus": "running" if runs else draw.choice(("failed", "backoff", "stopped", "unknown")),
        "statusDescription": draw.choice(("running", "", "Up 3 days")),
    }


def _module(draw: random.Random, name: str, at: int) -> dict[str, Any]:
    module: dict[str, Any] = {
        "restartPolicy": draw.choice(("always", "always", "on-unhealthy", "never")),
        "settings": _settings(draw, name),
        "status": "running",
        "type": "docker",
        **_state(draw, at),
    }
    extras = {
        "version": "1.0",
        "imagePullPolicy": "on-create",
        "lastRestartTimeUtc": "0001-01-01T00:00:00",
        "startupOrder": draw.randrange(5),
        "env": {"UpstreamProtocol": {"value": "AmqpWs"}, "storageFolder": {"value": "/iotedge/storage"}},
    }
    return module | {extra: value for extra, value in extras.items() if draw.random() < 0.5}


def _agent(draw: random.Random, names: list[str], at: int) -> dict[str, Any]:
    system = {
        "edgeAgent": {"type": "docker", "settings": _settings(draw, "azureiotedge-agent"), **_state(draw, at)},
        "edgeHub": _module(draw, "azureiotedge-hub", at),
    }
    short = {name: {"runtimeStatus": "running"} for name in system}
    platform = {"os": "linux", "architecture": draw.choice(("x86_64", "aarch64")), "version": "1.5.4"}
    report = {
        "schemaVersion": draw.choice(("1.0", "1.1")),
        "lastDesiredVersion": draw.randrange(2, 40),
        "lastDesiredStatus": {"code": draw.choice((200, 200, 200, 500)), "description": ""},
        "systemModules": system if draw.random() < 0.7 else short,
        "modules": {name: _module(draw, name, at) for name in names},
    }
    runtime = {
        "version": {"version": "1.5.4", "build": "20240827.1", "commit": _hex(draw, 40)},
        "runtime": {"type": "docker", "settings": {"minDockerVersion": "v1.25"}, "platform": platform},
    }
    return report if draw.random() < 0.3 else report | runtime


def _agent_patch(draw: random.Random, names: list[str], at: int) -> dict[str, Any]:
    """What an agent sends later: only the members that changed."""
    name, answered = draw.choice(names), {"lastDesiredVersion": draw.randrange(2, 40)}
    return {**answered, "modules": {name: _state(draw, at)}}


def _hub(draw: random.Random, names: list[str], at: int) -> dict[str, Any]:
    clients = {
        f"edge-{draw.randrange(10**6)}/{name}": {"status": "Connected", "lastConnectedTimeUtc": _time(draw, at)}
        for name in names
    }
    return {
        "schemaVersion": "1.2",
        "version": {"version": "1.5.4", "build": "20240827.1", "commit": _hex(draw, 40)},
        "lastDesiredVersion": draw.randrange(2, 40),
        "lastDesiredStatus": {"code": 200, "description": ""},
        "clients": clients if draw.random() < 0.7 else {},
    }


def trained(training: Sequence[bytes]) -> bytes:
    """A dictionary of the pieces whose byte sequences occur in most documents.

    The documents are divided into as many groups as pieces fit; each group gives the piece with the most that no earlier piece
    has. The best pieces come last: deflate encodes a short distance in fewer bits.
    """
    counts = Counter(gram for document in training for gram in set(_grams(document)))
    groups = SIZE // _PIECE
    step = -(-len(training) // groups)
    pieces: list[tuple[int, bytes]] = []
    while sum(len(piece) for _, piece in pieces) < SIZE:
        for start in range(0, len(training), step):
            score, piece = max(_best_piece(document, counts) for document in training[start : start + step])
            pieces.append((score, piece))
            for gram in _grams(piece):
                counts.pop(gram, None)
    return b"".join(piece for _, piece in sorted(pieces))[-SIZE:]


def _grams(document: bytes) -> list[bytes]:
    return [document[at : at + _GRAM] for at in range(len(document) - _GRAM + 1)]


def _best_piece(document: bytes, counts: Mapping[bytes, int]) -> tuple[int, bytes]:
    """The score of the piece with the most frequent grams, each counted once, and the piece."""
    grams, width = _grams(document), _PIECE - _GRAM + 1
    inside, score, best = Counter[bytes](), 0, (0, b"")
    for end, gram in enumerate(grams):
        score += 0 if inside[gram] else counts.get(gram, 0)
        inside[gram] += 1
        if end >= width:
            left = grams[end - width]
            inside[left] -= 1
            score -= 0 if inside[left] else counts.get(left, 0)
        if score > best[0]:
            best = score, document[max(0, end - width + 1) : end + _GRAM]
    return best


def main(number: str) -> None:
    """Train and write a dictionary that does not exist yet."""
    path = DICTIONARIES / f"{number}.zdict"
    if path.exists():
        sys.exit(f"{path} exists; documents that are stored need it unchanged")
    path.write_bytes(trained(list(documents(seed=1))))


if __name__ == "__main__":
    main(*sys.argv[1:])
