"""Sets of devices in events, as receivers are told of them: how many devices, and the ids of the first of them."""

from collections.abc import Callable

from msgspec import UNSET

from events.canonical import JsonObject
from events.deployment.facts import AdmissionChanged, Kept
from events.log.port import Fact
from events.rollout.facts import (
    Devices,
    DevicesAdmitted,
    DevicesRetried,
    PhaseOpened,
    Results,
    ResultsRecorded,
    RollbackBegan,
    RollbackEnded,
)

Shown = Callable[[Devices], JsonObject]
"""`{"count": 3, "devices": ["edge-1", …]}` of a set."""


def with_ids(fact: Fact, data: JsonObject, shown: Shown) -> JsonObject:
    """The data of an event, with ids in the place of ordinals, which say nothing outside the log."""
    match fact:
        case DevicesAdmitted(_, devices) | DevicesRetried(devices):
            return {**data, "devices": shown(devices)}
        case PhaseOpened(_, _, pool) if pool is not UNSET:
            return {**data, "pool": shown(pool)}
        case RollbackBegan() | ResultsRecorded():
            return {**data, "results": _results(fact.results, shown)}
        case RollbackEnded():
            return {**data, "not_back": _by_reason(fact.not_back, shown)}
        case AdmissionChanged(Kept(devices)):
            return {**data, "admission": {**data["admission"], "devices": shown(devices)}}
        case _:
            return data


def _results(results: Results, shown: Shown) -> JsonObject:
    plain = ("healthy", "already", "silent", "pending", "outranked")
    return {
        **{name: shown(getattr(results, name)) for name in plain},
        "failed": _by_reason(results.failed, shown),
        "not_applied": _by_reason(results.not_applied, shown),
        "is_whole": results.is_whole,
    }


def _by_reason(by_reason: dict[str, Devices], shown: Shown) -> JsonObject:
    return {why: shown(devices) for why, devices in by_reason.items()}
