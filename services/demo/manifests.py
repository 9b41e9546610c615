"""The manifests of the demo's story, and reading the user's own manifests."""

import json
from collections.abc import Sequence
from pathlib import Path

from events.canonical import JsonObject
from events.manifest.document import content_of, is_layered
from events.manifest.errors import ManifestInvalid
from events.manifest.problem import Problem
from events.manifest.validate import validate
from events.secrets.references import extract

_SHOWN = 20


def _module(image: str) -> JsonObject:
    module = {"type": "docker", "status": "running", "restartPolicy": "always", "version": "1.0"}
    return {**module, "settings": {"image": image, "createOptions": "{}"}}


def base(version: str) -> JsonObject:
    """A standard deployment's content: the system modules and a temperature sensor."""
    system = {
        "edgeAgent": {"type": "docker", "settings": {"image": "example.com/edge-agent:1.5.0", "createOptions": "{}"}},
        "edgeHub": {
            "type": "docker",
            "status": "running",
            "restartPolicy": "always",
            "settings": {"image": "example.com/edge-hub:1.5.0", "createOptions": "{}"},
        },
    }
    return {
        "modulesContent": {
            "$edgeAgent": {
                "properties.desired": {
                    "schemaVersion": "1.1",
                    "runtime": {"type": "docker", "settings": {"minDockerVersion": "v1.25"}},
                    "systemModules": system,
                    "modules": {"temperature": _module(f"example.com/temperature:{version}")},
                }
            },
            "$edgeHub": {
                "properties.desired": {
                    "schemaVersion": "1.1",
                    "routes": {"upstream": "FROM /messages/* INTO $upstream"},
                    "storeAndForwardConfiguration": {"timeToLiveSecs": 7200},
                }
            },
            "temperature": {"properties.desired": {"SendInterval": 5}},
        }
    }


def camera_layer() -> JsonObject:
    """A layered deployment's content: one more module and its route, nothing of the system modules."""
    return {
        "modulesContent": {
            "$edgeAgent": {"properties.desired.modules.camera": _module("example.com/camera:2.1.0")},
            "$edgeHub": {"properties.desired.routes.camera": "FROM /messages/modules/camera/* INTO $upstream"},
            "camera": {"properties.desired.settings": {"FramesPerSecond": 2}},
        }
    }


class ManifestUnreadable(Exception):
    """A file on the command line is not readable, or not a manifest of the required kind."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path, self.why = path, why


class ManifestRefused(Exception):
    """A manifest on the command line has problems; the message names the path of each."""

    def __init__(self, path: Path, problems: Sequence[Problem]) -> None:
        lines = [f"\n  {problem}" for problem in problems[:_SHOWN]]
        more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        super().__init__(f"{path} cannot be deployed:{''.join(lines)}{more}")
        self.path, self.problems = path, tuple(problems)


def read_manifest(path: Path, *, layered: bool) -> JsonObject:
    """A user's manifest, valid and of the required kind.

    Raises:
        ManifestUnreadable: it is no readable JSON file, or a standard manifest where a layer is required, or the reverse.
        ManifestRefused: it has problems.
        SecretTextInvalid: a password in it is no text.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ManifestUnreadable(path, str(error)) from error
    content: JsonObject = content_of(document)
    try:
        # Secrets are replaced by references, so that no message shows one.
        validate(extract(content, new_id=lambda: "0")[0])
    except ManifestInvalid as error:
        raise ManifestRefused(path, error.problems) from error
    if is_layered(content) != layered:
        kinds = ("a standard manifest", "a layer")
        raise ManifestUnreadable(path, f"{kinds[not layered]} where {kinds[layered]} is required")
    return content
