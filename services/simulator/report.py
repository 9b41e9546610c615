"""The answers of a device to its assignment (contract/edge.md §1.2)."""

from collections.abc import Iterator, Mapping
from typing import Any

from events import AcknowledgeDesired, ReportProperties
from events.canonical import JsonObject
from events.fleet.assignments import Assignment
from events.fleet.configuration import AGENT, HUB
from services.simulator.behaviour import BehaviourKind

OK = 200
FAILED = 500

Answer = ReportProperties | AcknowledgeDesired


def answers(device_id: str, assignment: Assignment, patch: JsonObject, *, previous: Assignment) -> Iterator[Answer]:
    """The answers of a device that went from the assignment `previous` to `assignment`, for each section that changed.

    `patch` is the patch that `report` returned for it.
    """
    if assignment.agent_version != previous.agent_version:
        yield ReportProperties(device_id=device_id, module_id=AGENT, patch=patch)
    hub = assignment.versions.get(HUB, 0)
    if hub != previous.versions.get(HUB, 0):
        answered = {"lastDesiredVersion": hub, "lastDesiredStatus": {"code": OK, "description": ""}}
        yield ReportProperties(device_id=device_id, module_id=HUB, patch=answered)
    if assignment.deliverable != previous.deliverable:
        yield AcknowledgeDesired(device_id=device_id, versions=assignment.deliverable)


def report(
    sections: Mapping[str, JsonObject], *, version: int, previous_modules: frozenset[str], kind: BehaviourKind
) -> tuple[JsonObject, frozenset[str]]:
    """The merge patch to the `$edgeAgent` twin's reported properties, and the names of the modules that it reports.

    `previous_modules` are the modules reported before; a module that is gone is removed with a null. A failing device answers
    500 if it has modules to run, and its first module has failed.
    """
    agent = sections.get(AGENT, {})
    modules = agent.get("modules") or {}
    failing = kind is BehaviourKind.FAILING and bool(modules)
    statuses = {name: str(module.get("status", "running")) for name, module in modules.items()}
    if failing:
        statuses[min(statuses)] = "failed"
    reported: dict[str, Any] = {name: {"runtimeStatus": status} for name, status in statuses.items()}
    reported |= dict.fromkeys(previous_modules - statuses.keys())
    system = agent.get("systemModules") or {}
    patch = {
        "schemaVersion": "1.1",
        "lastDesiredVersion": version,
        "lastDesiredStatus": {"code": FAILED, "description": "a module did not start"}
        if failing
        else {"code": OK, "description": ""},
        "systemModules": {
            key: {"runtimeStatus": "running"} for key, _ in (("edgeAgent", AGENT), ("edgeHub", HUB)) if key in system
        },
        "modules": reported,
    }
    return patch, frozenset(statuses)
