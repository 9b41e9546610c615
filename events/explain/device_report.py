"""What a device's system modules reported last, against what they should have."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from events.bitmaps import from_bytes
from events.canonical import JsonObject
from events.device.state import NEVER, ModuleDocument, section
from events.fleet.assignments import Assignment
from events.fleet.configuration import Configuration
from events.number_text import utc_text
from events.stored_projection.stored_partition import StoredPartition

Health = Literal["healthy", "unhealthy", "unknown", "pending"]

SETS_OF_HEALTH = ("acknowledged", "healthy", "unhealthy")
"""The status sets that a report is read with, beside the hash `undelivered` and the array `answer_runtimes`."""


class HubReport(msgspec.Struct, frozen=True, rename="camel"):
    """What `$edgeHub` answered last: for which version, with which code; `wanted_version` is the one that it is to answer for."""

    version: int | None
    wanted_version: int
    code: int | None


class ModuleStatus(msgspec.Struct, frozen=True, rename="camel"):
    """What a module should be and what the agent reports it is; `None` where the manifest, or the report, lacks it."""

    desired: str | None
    runtime_status: str | None


class DeviceReport(msgspec.Struct, frozen=True, rename="camel"):
    """What a device's agent reported last, at a time (milliseconds): for which version, with which code, and in words.

    `wanted_version` is the version that it is to answer for. `status` is what the projections make of all answers for that:
    `pending` until everything is acknowledged. `hub` is the same of `$edgeHub`, null where it has nothing to answer for.
    `undelivered` are the modules that do not have their sections yet. `stale` says that the states of modules were reported
    before the agent's answer.
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
    kept: StoredPartition,
    ordinal: int | None,
) -> DeviceReport | None:
    """What the system modules reported, against a device's assignment and the sections of its configuration.

    `None` where the agent never reported. `kept` has SETS_OF_HEALTH and the rest as of the assignment; `ordinal` is `None` where
    the projection does not know the device.
    """
    if agent is None or agent.reported_at == NEVER:
        return None
    reported = section(agent.reported)
    version, code, description = _answer(reported)
    expected = assignment.expected(Configuration.of(sections))
    runtime = (
        0
        if ordinal is None
        else int.from_bytes(kept.arrays["answer_runtimes"][4 * ordinal : 4 * ordinal + 4], "little")
    )
    has_answered = version is not None and version >= expected.agent
    hub_report = None
    if expected.hub:
        hub_version, hub_code, _ = _answer({} if hub is None else section(hub.reported))
        hub_report = HubReport(hub_version, expected.hub, hub_code)
    report = DeviceReport(
        says="",
        at=agent.reported_at,
        version=version,
        wanted_version=expected.agent,
        code=code,
        description=description or None,
        status=_health(kept, ordinal),
        hub=hub_report,
        undelivered=tuple(
            name for name in sorted(expected.of_edge) if _is_in(kept.hashes["undelivered"].get(name), ordinal)
        ),
        stale=has_answered and expected.runtime not in {0, runtime},
        modules=_modules(dict(expected.statuses), _modules_of(reported)),
    )
    return msgspec.structs.replace(report, says=report_text(report))


def _modules(desired: Mapping[str, str], reported: Mapping[str, dict[str, Any]]) -> dict[str, ModuleStatus]:
    runtime = {name: str(module.get("runtimeStatus")) for name, module in reported.items()}
    return {name: ModuleStatus(desired.get(name), runtime.get(name)) for name in sorted({*desired, *runtime})}


def _answer(reported: Mapping[str, Any]) -> tuple[int | None, int | None, str]:
    """The version, the code and the description that a system module answered with."""
    status = reported.get("lastDesiredStatus")
    status = status if isinstance(status, dict) else {}
    version, code = _number(reported.get("lastDesiredVersion")), _number(status.get("code"))
    return version, code, str(status.get("description", ""))


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _modules_of(reported: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    modules: dict[str, dict[str, Any]] = {}
    for group, prefix in (("modules", ""), ("systemModules", "$")):
        members = reported.get(group)
        if isinstance(members, dict):
            modules |= {f"{prefix}{name}": module for name, module in members.items() if isinstance(module, dict)}
    return modules


def _health(kept: StoredPartition, ordinal: int | None) -> Health:
    """The first of some status sets that a device is in, as the projection has them."""
    statuses: tuple[tuple[str, Health], ...] = (
        ("healthy", "healthy"),
        ("unhealthy", "unhealthy"),
        ("acknowledged", "unknown"),
    )
    for name, health in statuses:
        if _is_in(kept.hashes["sets"].get(name), ordinal):
            return health
    return "pending"


def _is_in(members: bytes | None, ordinal: int | None) -> bool:
    return members is not None and ordinal is not None and ordinal in from_bytes(members)


def report_text(report: DeviceReport) -> str:
    """What the device answered last, and what that is to what it should run."""
    return "; ".join((_of_agent(report), *_of_others(report)))


def _of_agent(report: DeviceReport) -> str:
    code = "nothing" if report.code is None else f"code {report.code}"
    what = f" ({report.description})" if report.description else ""
    when = utc_text(report.at)
    if report.version is None or report.code is None:
        return f"its agent reported on {when}, and answered for no version"
    if report.version < report.wanted_version:
        return f"its agent answered {code}{what} on {when}, for version {report.version}; it should have {report.wanted_version}"
    wrong = [
        f"{name} is {'not there' if module.runtime_status is None else module.runtime_status} and should be {module.desired}"
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


def _of_others(report: DeviceReport) -> Iterator[str]:
    """What is missing, or has failed, of the answers of all but the agent."""
    hub = report.hub
    if hub is not None and (hub.version is None or hub.code is None or hub.version < hub.wanted_version):
        answered = "never answered" if hub.version is None else f"answered for version {hub.version} last"
        yield f"its $edgeHub {answered}; it should have {hub.wanted_version}"
    elif hub is not None and hub.code not in {200, 406}:
        yield f"its $edgeHub answered code {hub.code} for version {hub.version}, which it should have"
    if report.undelivered:
        lacks = (
            "do not have what they are told yet" if len(report.undelivered) > 1 else "does not have what it is told yet"
        )
        yield f"{', '.join(report.undelivered)} {lacks}"
