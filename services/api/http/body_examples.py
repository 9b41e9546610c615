"""Examples of bodies, for the description of the API."""

from typing import Any

from pydantic import ConfigDict

_EXAMPLE_IMAGE = "example.com/sensor:1.0"

_MODULE = {"type": "docker", "status": "running", "restartPolicy": "always", "settings": {"image": _EXAMPLE_IMAGE}}

CONTENT: dict[str, Any] = {
    "modulesContent": {
        "$edgeAgent": {
            "properties.desired": {
                "schemaVersion": "1.1",
                "runtime": {"type": "docker", "settings": {}},
                "systemModules": {
                    "edgeAgent": {"type": "docker", "settings": {"image": "example.com/edge-agent:1.5"}},
                    "edgeHub": {**_MODULE, "settings": {"image": "example.com/edge-hub:1.5"}},
                },
                "modules": {"camera": _MODULE},
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


def example(value: dict[str, Any]) -> ConfigDict:
    """The configuration of a body that shows an example of it."""
    return ConfigDict(json_schema_extra={"examples": [value]})
