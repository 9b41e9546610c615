"""A manifest that no rule has anything to say of, and ways to spoil it."""

import copy
import json
from typing import Any

from events.manifest.problem import Severity
from events.readiness.catalogue import RULES
from events.readiness.check import ReadinessReport, check
from events.readiness.finding import Finding
from events.readiness.host_facts import Certificate, ContainerEngine, HostFacts
from events.readiness.profile import Profile
from events.readiness.subject import ReadinessSubject, read_document, subject_of_sections

NOW = 1_800_000_000_000
DAY = 24 * 3600 * 1000
EVERYTHING = Profile("everything", {rule.id: rule.severity for rule in RULES})
"""Every rule, those among them that some profile leaves out."""

LOGS = {"Type": "local", "Config": {"max-size": "10m", "max-file": "3"}}
LIMITS = {"LogConfig": LOGS, "Memory": 64 * 1024 * 1024, "NanoCpus": 500_000_000}
REGISTRY = "registry.example.com"


def options(**host_config: Any) -> str:
    """createOptions as text: the limits every module has, and more members of HostConfig."""
    return json.dumps({"HostConfig": {**LIMITS, **host_config}})


def module(name: str = "temp", **members: Any) -> dict[str, Any]:
    return {
        "type": "docker",
        "status": "running",
        "restartPolicy": "always",
        "settings": {"image": f"{REGISTRY}/{name}:1.0.0", "createOptions": options()},
        **members,
    }


def _system(name: str, env: dict[str, Any], **members: Any) -> dict[str, Any]:
    made = {
        "type": "docker",
        "settings": {
            "image": f"{REGISTRY}/azureiotedge-{name}:1.5.4",
            "createOptions": json.dumps({"HostConfig": {"LogConfig": LOGS, "Binds": ["/srv/edge:/storage"]}}),
        },
        "env": {key: {"value": value} for key, value in {"StorageFolder": "/storage", **env}.items()},
    }
    return {**made, **members}


READY: dict[str, Any] = {
    "modulesContent": {
        "$edgeAgent": {
            "properties.desired": {
                "schemaVersion": "1.1",
                "runtime": {
                    "type": "docker",
                    "settings": {
                        "minDockerVersion": "v1.25",
                        "registryCredentials": {
                            "own": {"address": REGISTRY, "username": "puller", "password": {"$secret": "7"}}
                        },
                    },
                },
                "systemModules": {
                    "edgeAgent": _system("agent", {"UpstreamProtocol": "AmqpWs"}),
                    "edgeHub": _system(
                        "hub",
                        {
                            "UpstreamProtocol": "AmqpWs",
                            "OptimizeForPerformance": "false",
                            "httpSettings__enabled": "false",
                        },
                        status="running",
                        restartPolicy="always",
                    ),
                },
                "modules": {"temp": module("temp"), "alarm": module("alarm")},
            }
        },
        "$edgeHub": {
            "properties.desired": {
                "schemaVersion": "1.1",
                "routes": {
                    "up": "FROM /messages/modules/temp/outputs/* INTO $upstream",
                    "alarm": "FROM /messages/modules/alarm/* INTO $upstream",
                },
                "storeAndForwardConfiguration": {"timeToLiveSecs": 7200},
            }
        },
        "temp": {"properties.desired": {"interval": 5}},
    }
}

ABSENT = object()


def manifest(*changes: tuple[str, Any]) -> dict[str, Any]:
    """The manifest with values put at paths, as in `agent/modules/temp/status`; ABSENT takes away."""
    made = copy.deepcopy(READY)
    for path, value in changes:
        _put(made, path, value)
    return made


def _put(document: dict[str, Any], path: str, value: Any) -> None:
    root, *names = path.split("/")
    node = document["modulesContent"]
    if root in ("agent", "hub"):
        node = node[{"agent": "$edgeAgent", "hub": "$edgeHub"}[root]]["properties.desired"]
    else:
        names = [root, *names]
    for name in names[:-1]:
        node = node.setdefault(name, {})
    if value is ABSENT:
        del node[names[-1]]
    else:
        node[names[-1]] = value


def temp(name: str, value: Any) -> dict[str, Any]:
    """The manifest with another member of the module temp."""
    return manifest((f"agent/modules/temp/{name}", value))


def image(reference: str) -> dict[str, Any]:
    return temp("settings/image", reference)


def create_options(text: Any) -> dict[str, Any]:
    return temp("settings/createOptions", text if isinstance(text, str) else json.dumps(text))


def host_config(**members: Any) -> dict[str, Any]:
    return create_options(options(**members))


def hub_env(**variables: str) -> dict[str, Any]:
    return manifest(*((f"agent/systemModules/edgeHub/env/{key}/value", value) for key, value in variables.items()))


def layer(
    agent: dict[str, Any] | None = None, hub: dict[str, Any] | None = None, **modules: dict[str, Any]
) -> dict[str, Any]:
    content: dict[str, Any] = {
        "$edgeAgent": {f"properties.desired.{key}": value for key, value in (agent or {}).items()}
    }
    if hub is not None:
        content["$edgeHub"] = {f"properties.desired.{key}": value for key, value in hub.items()}
    return {"modulesContent": {**content, **modules}}


def subject(*documents: Any, template: bool = False) -> ReadinessSubject:
    """Documents laid over each other, named by their numbers unless they have ids."""
    return ReadinessSubject(
        tuple(read_document(one, name=f"{number}.json", template=template) for number, one in enumerate(documents))
    )


def host(facts: HostFacts | None, *changes: tuple[str, Any]) -> ReadinessSubject:
    """A device that runs the manifest and reports host facts."""
    sections = {name: paths["properties.desired"] for name, paths in manifest(*changes)["modulesContent"].items()}
    return subject_of_sections(sections, name="edge1", host=facts)


def moby(**members: Any) -> HostFacts:
    """Host facts of a device with a good engine."""
    good: dict[str, Any] = {
        "name": "moby-engine",
        "version": "20.10.14+azure-1",
        "log_driver": "local",
        "dns": ("10.0.0.2",),
    }
    return HostFacts(engine=ContainerEngine(**{**good, **members}))


def certificate(days: int, *, temporary: bool = False) -> HostFacts:
    return HostFacts(certificates={"deviceCa": Certificate(NOW + days * DAY, temporary)})


def checked(checked_subject: ReadinessSubject, profile: Profile = EVERYTHING) -> ReadinessReport:
    return check(checked_subject, profile, now=NOW)


def found(checked_subject: ReadinessSubject, rule: str) -> list[Finding]:
    return [one for one in checked(checked_subject).findings if one.rule == rule]


def severities(report: ReadinessReport) -> set[Severity]:
    return {one.severity for one in report.findings}
