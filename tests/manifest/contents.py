"""Contents to start from: a small valid standard deployment and a small valid layer, made anew for each test."""

from typing import Any

HUB_IMAGE = "registry.example.com/edge-hub:1.5.0"


def module(image: str = "registry.example.com/temp:1.0.0", **members: Any) -> dict[str, Any]:
    return {
        "type": "docker",
        "status": "running",
        "restartPolicy": "always",
        "settings": {"image": image, "createOptions": "{}"},
        **members,
    }


def agent(**members: Any) -> dict[str, Any]:
    return {
        "schemaVersion": "1.1",
        "runtime": {"type": "docker", "settings": {"minDockerVersion": "v1.25"}},
        "systemModules": {
            "edgeAgent": {"type": "docker", "settings": {"image": "registry.example.com/edge-agent:1.5.0"}},
            "edgeHub": module(HUB_IMAGE),
        },
        "modules": {"temp": module()},
        **members,
    }


def hub(**members: Any) -> dict[str, Any]:
    return {
        "schemaVersion": "1.1",
        "routes": {"up": "FROM /messages/* INTO $upstream"},
        "storeAndForwardConfiguration": {"timeToLiveSecs": 7200},
        **members,
    }


def content(
    *, agent: dict[str, Any] | None = None, hub: dict[str, Any] | None = None, **modules: Any
) -> dict[str, Any]:
    return {
        "modulesContent": {
            "$edgeAgent": {"properties.desired": agent if agent is not None else AGENT()},
            "$edgeHub": {"properties.desired": hub if hub is not None else HUB()},
            **modules,
        }
    }


def layer(agent: dict[str, Any], hub: dict[str, Any] | None = None, **modules: Any) -> dict[str, Any]:
    return {
        "modulesContent": {
            "$edgeAgent": {f"properties.desired.{path}": value for path, value in agent.items()},
            "$edgeHub": {f"properties.desired.{path}": value for path, value in (hub or {}).items()},
            **modules,
        }
    }


# `content` takes arguments of the same names.
AGENT, HUB = agent, hub
