"""The last reports of a device's system modules, compared with its configuration."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from events.bitmaps import from_bytes
from events.canonical import JsonObject
from events.device.state import NEVER, ModuleDocument, section
from events.fleet.answers import NOT_RUNNING, OK
from events.fleet.assignments import Assignment
from events.fleet.configuration import Configuration
from events.number_text import utc_text
from events.stored_projection.stored_partition import StoredPartition

Health = Literal["healthy", "unhealthy", "unknown", "pending"]

# In this order: every device in `healthy` is in `acknowledged` too, so the first match is the exact one.
_HEALTH_BY_SET: Mapping[str, Health] = {"healthy": "healthy", "unhealthy": "unhealthy", "acknowledged": "unknown"}
SETS_OF_HEALTH = tuple(_HEALTH_BY_SET)
"""The status sets that a report needs, beside the hash `undelivered` and the array `answer_runtimes`."""


class HubReport(msgspec.Struct, frozen=True, rename="camel"):
    """The last answer of `$edgeHub`: the version and the code; `wanted_version` is the version that it should answer for."""

    version: int | None
    wanted_version: int
    code: int | None


class ModuleStatus(msgspec.Struct, frozen=True, rename="camel"):
    """A module's desired status and the one that the agent reports; `None` if the manifest, or the report, lacks the module."""

    desired: str | None
    runtime_status: str | None


class DeviceReport(msgspec.Struct, frozen=True, rename="camel"):
    """The last report of a device's agent: its time (milliseconds), version, code and description.

    `wanted_version` is the version that the agent should answer for. `status` is the health in the projections: `pending` until
    every answer is there. `hub` is the answer of `$edgeHub`, null if the configuration has nothing for it. `undelivered` are the
    modules that do not have their desired properties yet. `stale` means that the states of modules were reported before the
    agent's answer.
    """

    says: str
    at: int
    version: int | None
    wanted_version: int
    code: int | None
    description: str | None
    status: Health
    hub: HubReport | None
    undelivered: tuple[str, ...]
    stale: bool
    modules: Mapping[str, ModuleStatus]


def device_report(
    agent: ModuleDocument | None,
    hub: ModuleDocument | None,
    *,
    assignment: Assignment,
    sections: Mapping[str, JsonObject],
    stored: StoredPartition,
    ordinal: int | None,
) -> DeviceReport | None:
    """Returns the system modules' reports, compared with the device's configuration; `None` if the agent never reported.

    `stored` has SETS_OF_HEALTH, `undelivered` and `answer_runtimes` as of the assignment; `ordinal` is `None` for a device that
    the projection does not have.
    """
    if agent is None or agent.reported_at == NEVER:
        return None
    reported, sets = section(agent.reported), stored.hashes["sets"]
    version, code, description = _answer(reported)
    expected = assignment.expected(Configuration.of(sections))
    runtime, hub_report = 0, None
    if ordinal is not None:
        runtime = int.from_bytes(stored.arrays["answer_runtimes"][4 * ordinal : 4 * ordinal + 4], "little")
    has_answered = version is not None and version >= expected.agent
    if expected.hub:
        hub_version, hub_code, _ = _answer({} if hub is None else section(hub.reported))
        hub_report = HubReport(hub_version, expected.hub, hub_code)
    desired = dict(expected.statuses)
    runtimes = {
        f"{prefix}{name}": str(module.get("runtimeStatus"))
        for prefix, group in (("", "modules"), ("$", "systemModules"))
        for name, module in _members(reported.get(group)).items()
        if isinstance(module, dict)
    }
    report = DeviceReport(
        says="",
        at=agent.reported_at,
        version=version,
        wanted_version=expected.agent,
        code=code,
        description=description or None,
        status=next((health for name, health in _HEALTH_BY_SET.items() if _is_in(sets.get(name), ordinal)), "pending"),
        hub=hub_report,
        undelivered=tuple(
            name for name in sorted(expected.of_edge) if _is_in(stored.hashes["undelivered"].get(name), ordinal)
        ),
        stale=has_answered and expected.runtime not in {0, runtime},
        modules={name: ModuleStatus(desired.get(name), runtimes.get(name)) for name in sorted({*desired, *runtimes})},
    )
    return msgspec.structs.replace(report, says=report_text(report))


def _answer(reported: Mapping[str, Any]) -> tuple[int | None, int | None, str]:
    """The version, the code and the description in a system module's reported properties."""
    status = _members(reported.get("lastDesiredStatus"))
    version, code = _number(reported.get("lastDesiredVersion")), _number(status.get("code"))
    return version, code, str(status.get("description", ""))


def _members(value: object) -> dict[str, Any]:
    # Devices report any JSON.
    return value if isinstance(value, dict) else {}


def _number(value: object) -> int | None:
    # bool is an int in Python: without the second test, `true` would be version 1.
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_in(members: bytes | None, ordinal: int | None) -> bool:
    return members is not None and ordinal is not None and ordinal in from_bytes(members)


def report_text(report: DeviceReport) -> str:
    """Returns the report as one sentence: the last answers, and how they differ from the configuration."""
    hub, parts = report.hub, [_of_agent(report)]
    if hub is not None and (hub.version is None or hub.code is None or hub.version < hub.wanted_version):
        answered = "never answered" if hub.version is None else f"answered for version {hub.version} last"
        parts.append(f"its $edgeHub {answered}; it should have {hub.wanted_version}")
    # 406 means that the module is stopping: neither success nor failure (contract/edge.md §1.2).
    elif hub is not None and hub.code not in {OK, NOT_RUNNING}:
        parts.append(f"its $edgeHub answered code {hub.code} for version {hub.version}, which it should have")
    if report.undelivered:
        have = "do not have their" if len(report.undelivered) > 1 else "does not have its"
        parts.append(f"{', '.join(report.undelivered)} {have} desired properties yet")
    return "; ".join(parts)


def _of_agent(report: DeviceReport) -> str:
    code = "nothing" if report.code is None else f"code {report.code}"
    what = f" ({report.description})" if report.description else ""
    when = utc_text(report.at)
    if report.version is None or report.code is None:
        return f"its agent reported on {when}, without a version that it answers for"
    if report.version < report.wanted_version:
        return f"its agent answered {code}{what} on {when}, for version {report.version}; it should have {report.wanted_version}"
    wrong = [
        f"{name} is {'missing' if module.runtime_status is None else module.runtime_status} and should be {module.desired}"
        for name, module in report.modules.items()
        if module.desired is not None and module.runtime_status != module.desired
    ]
    is_desired = any(module.desired is not None for module in report.modules.values())
    if report.stale:
        modules = "; the states of its modules were reported before that answer"
    else:
        modules = f"; {', '.join(wrong)}" if wrong else "; all modules are as desired" if is_desired else ""
    which = (
        "which it should have"
        if report.version == report.wanted_version
        else f"and should have {report.wanted_version}"
    )
    return f"its agent answered {code}{what} for version {report.version}, {which}, on {when}: {report.status}{modules}"
