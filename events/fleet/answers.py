"""What devices answered to what they were given, per ordinal: versions and codes, deliveries, and how their modules are."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from events.fleet.configuration import AGENT, HUB
from events.fleet.packed import Packed, grouped

OK = 200
NOT_RUNNING = 406
"""The agent's own word for *I am going down*: neither success nor failure (contract/edge.md §1.2)."""

_U32_MAX = 2**32 - 1
OTHER = _U32_MAX
"""Stands for a reported number that no agent means as a version or a code; it is no success."""

_BORN = 1
"""The version of a section that nothing ever changed: there is nothing to deliver."""

Signature = tuple[tuple[str, str], ...]
"""Runtime statuses by module, sorted."""

Deliveries = tuple[tuple[str, int], ...]
"""Versions that were delivered by module, sorted."""

Value = TypeVar("Value", str, int)
Numbers = npt.NDArray[np.uint32]
Truths = npt.NDArray[np.bool_]


class Combinations(Generic[Value]):
    """Distinct small mappings that many ordinals share, numbered as they came up; 0 is the empty one."""

    def __init__(self) -> None:
        self.by_number: dict[int, tuple[tuple[str, Value], ...]] = {0: ()}
        self.next_number = 1
        self._numbers: dict[tuple[tuple[str, Value], ...], int] = {(): 0}
        self._uses: dict[int, int] = {}
        self.changed: set[int] = set()

    def swap(self, old: int, members: Mapping[str, Value]) -> int:
        """One ordinal goes from a combination to the one with these members; answers its number."""
        combination = tuple(sorted(members.items()))
        number = self._numbers.get(combination)
        if number is None:
            number = self.next_number
            self.next_number += 1
            self._numbers[combination] = number
            self.by_number[number] = combination
            self.changed.add(number)
        if number != old:
            self._uses[number] = self._uses.get(number, 0) + 1
            self._uses[old] = self._uses.get(old, 0) - 1
            if self._uses[old] == 0 and old != 0:
                del self._uses[old], self._numbers[self.by_number.pop(old)]
                self.changed.add(old)
        return number

    def restore(self, number: int, combination: tuple[tuple[str, Value], ...], uses: int) -> None:
        """Put a stored combination back."""
        self._numbers[combination] = number
        self.by_number[number] = combination
        self._uses[number] = uses


class Expected(msgspec.Struct, frozen=True):
    """What the devices of one assignment are to answer for.

    `agent` and `hub` are the versions that the system modules are to name, 0 for none. `runtime` marks what the agent is to
    run (0: nothing), and `statuses` are how its modules should be. `delivered` are the versions of other sections, by module,
    and `$device` for the device's own twin; of these, `of_edge` belong to what the agent runs.
    """

    agent: int = 0
    hub: int = 0
    runtime: int = 0
    statuses: Signature = ()
    delivered: Mapping[str, int] = {}
    of_edge: frozenset[str] = frozenset()


def lacking(expected: Mapping[str, int], deliveries: Deliveries) -> frozenset[str]:
    """The sections of which a device does not have the expected version."""
    delivered_versions = dict(deliveries)
    return frozenset(name for name, version in expected.items() if delivered_versions.get(name, _BORN) < version)


class SystemAnswers:
    """What one of the two system modules of each device answered last: for which version, with which code."""

    def __init__(self) -> None:
        self.versions = Packed()
        self.codes = Packed()

    def apply(self, ordinal: int, patch: dict[str, Any]) -> None:
        """Take a merge patch to the module's reported properties in; what is not as such a module reports is no answer."""
        if "lastDesiredVersion" in patch:
            self.versions[ordinal] = _number(patch["lastDesiredVersion"])
        if "lastDesiredStatus" in patch:
            status = patch["lastDesiredStatus"]
            if not isinstance(status, dict):
                self.codes[ordinal] = 0
            elif "code" in status:
                self.codes[ordinal] = _number(status["code"])

    def has_answered(self, ordinal: int, version: int) -> bool:
        """Whether the module of a device has answered for a version, or a later one."""
        return 0 < version <= self.versions[ordinal] != OTHER and self.codes[ordinal] != 0

    def forget(self, ordinal: int) -> None:
        """The device is gone."""
        self.versions[ordinal] = self.codes[ordinal] = 0

    def answered(self, ordinals: Numbers, expected: Numbers) -> tuple[Truths, Numbers]:
        """As `has_answered`, of many ordinals, with the codes."""
        versions, codes = self.versions.take(ordinals), self.codes.take(ordinals)
        return (expected > 0) & (versions >= expected) & (versions != OTHER) & (codes != 0), codes


class DeviceAnswers:
    """The answers of a partition's devices, and the sets that follow from them and from the assignments."""

    def __init__(self) -> None:
        self.agent, self.hub = SystemAnswers(), SystemAnswers()
        self.signature_of, self.signatures = Packed(), Combinations[str]()
        self.runtime_of = Packed()
        """What the agent last reported its modules of: `Expected.runtime` of the assignment that it had answered for."""
        self.delivered_of, self.deliveries = Packed(), Combinations[int]()
        self.sets: dict[str, BitMap] = {name: BitMap() for name in SETS}
        self.undelivered: dict[str, BitMap] = {}
        """By module, the ordinals that do not have its section yet."""
        self.changed_undelivered: set[str] = set()
        self.stale = BitMap()

    def _arrays(self) -> tuple[Packed, ...]:
        systems = (packed for system in (self.agent, self.hub) for packed in (system.versions, system.codes))
        return (*systems, self.signature_of, self.runtime_of, self.delivered_of)

    def reserve(self, count: int) -> None:
        """Make room for ordinals below `count`."""
        for packed in self._arrays():
            packed.reserve(count)

    def apply_agent(self, ordinal: int, patch: dict[str, Any], expected: Expected) -> None:
        """Take a merge patch to the reported properties of `$edgeAgent` in, of a device that was given `expected`."""
        self.agent.apply(ordinal, patch)
        if "modules" in patch or "systemModules" in patch:
            old = self.signature_of[ordinal]
            statuses = dict(self.signatures.by_number[old])
            _apply_statuses(statuses, patch)
            new = self.signatures.swap(old, statuses)
            if new != old:
                self.signature_of[ordinal] = new
            if self.agent.has_answered(ordinal, expected.agent) and self.runtime_of[ordinal] != expected.runtime:
                self.runtime_of[ordinal] = expected.runtime
        self.stale.add(ordinal)

    def apply_hub(self, ordinal: int, patch: dict[str, Any]) -> None:
        """As `apply_agent`, of `$edgeHub`."""
        self.hub.apply(ordinal, patch)
        self.stale.add(ordinal)

    def apply_delivered(self, ordinal: int, versions: Mapping[str, int]) -> None:
        """Take in that a device has these versions of sections, or later ones."""
        old = self.delivered_of[ordinal]
        delivered = dict(self.deliveries.by_number[old])
        for name, version in versions.items():
            delivered[name] = max(version, delivered.get(name, _BORN))
        self.delivered_of[ordinal] = self.deliveries.swap(old, delivered)
        self.stale.add(ordinal)

    def forget(self, ordinal: int) -> None:
        """The device is gone."""
        self.agent.forget(ordinal)
        self.hub.forget(ordinal)
        self.runtime_of[ordinal] = 0
        self.signature_of[ordinal] = self.signatures.swap(self.signature_of[ordinal], {})
        self.delivered_of[ordinal] = self.deliveries.swap(self.delivered_of[ordinal], {})
        self.stale.add(ordinal)

    def judge(self, assignments: Packed, expected_of: Callable[[int], Expected]) -> None:
        """Bring the sets up to date for the ordinals whose answers or assignment changed; `expected_of` is asked by row."""
        if not self.stale:
            return
        ordinals = np.array(self.stale, dtype=np.uint32)
        numbers, inverse = np.unique(assignments.take(ordinals), return_inverse=True)
        expected = [expected_of(int(number)) for number in numbers]
        by_agent, agent_codes = self.agent.answered(
            ordinals, _of([assignment_expected.agent for assignment_expected in expected])[inverse]
        )
        exact = by_agent & (
            self.agent.versions.take(ordinals)
            == _of([assignment_expected.agent for assignment_expected in expected])[inverse]
        )
        hub_expected = _of([assignment_expected.hub for assignment_expected in expected])[inverse]
        by_hub, hub_codes = self.hub.answered(ordinals, hub_expected)
        is_delivered = self._deliver(ordinals, inverse, expected)
        runtime = _of([assignment_expected.runtime for assignment_expected in expected])[inverse]
        is_ok = by_agent & (agent_codes == OK)
        is_fresh = is_ok & ((runtime == 0) | (self.runtime_of.take(ordinals) == runtime))
        is_desired = self._as_desired(ordinals, inverse, expected, among=is_fresh)
        is_refused = (by_agent & _is_failure(agent_codes)) | (by_hub & _is_failure(hub_codes))
        needs_no_hub = hub_expected == 0
        acknowledged = by_agent & (by_hub | needs_no_hub) & is_delivered
        self._replace(
            ordinals,
            {
                "acknowledged": acknowledged,
                "succeeded": exact & (agent_codes == OK),
                "failed": exact & (agent_codes != OK),
                "healthy": acknowledged & is_desired & (needs_no_hub | (hub_codes == OK)),
                "refused": is_refused,
                "unhealthy": is_refused | (is_fresh & ~is_desired),
            },
        )
        self.stale = BitMap()

    def _replace(self, ordinals: Numbers, judged: Mapping[str, Truths]) -> None:
        for name, holds in judged.items():
            self.sets[name] -= self.stale
            self.sets[name] |= BitMap(ordinals[holds])

    def _deliver(self, ordinals: Numbers, inverse: npt.NDArray[np.intp], expected: list[Expected]) -> Truths:
        """Bring `undelivered` up to date; answers who has every section of what the agent runs."""
        result, by_name = np.ones(len(ordinals), dtype=np.bool_), dict[str, BitMap]()
        among = np.array([bool(assignment_expected.delivered) for assignment_expected in expected], dtype=np.bool_)[
            inverse
        ]
        for index, deliveries, holds in _pairs(inverse, self.delivered_of.take(ordinals), among):
            names = lacking(expected[index].delivered, self.deliveries.by_number[deliveries])
            if names & expected[index].of_edge:
                result[holds] = False
            for name in names:
                by_name[name] = by_name.get(name, BitMap()) | BitMap(ordinals[holds])
        for name in sorted(self.undelivered.keys() | by_name.keys()):
            previous = self.undelivered.get(name, BitMap())
            members = (previous - self.stale) | by_name.get(name, BitMap())
            if members != previous:
                self.changed_undelivered.add(name)
                self.undelivered[name] = members
                if not members:
                    del self.undelivered[name]
        return result

    def _as_desired(
        self, ordinals: Numbers, inverse: npt.NDArray[np.intp], expected: list[Expected], *, among: Truths
    ) -> Truths:
        result = np.zeros(len(ordinals), dtype=np.bool_)
        for index, signature, holds in _pairs(inverse, self.signature_of.take(ordinals), among):
            result[holds] = as_desired(expected[index].statuses, self.signatures.by_number[signature])
        return result


SETS = ("acknowledged", "failed", "healthy", "refused", "succeeded", "unhealthy")
"""`failed` and `succeeded` are the contract's, of the agent alone; `refused` have answered with a code of failure."""


def _of(numbers: list[int]) -> Numbers:
    return np.array(numbers, dtype=np.uint32)


def _is_failure(codes: Numbers) -> Truths:
    return np.isin(codes, (OK, NOT_RUNNING), invert=True)


def _pairs(
    inverse: npt.NDArray[np.intp], numbers: Numbers, among: Truths
) -> Iterator[tuple[int, int, npt.NDArray[np.intp]]]:
    """Each distinct pair of an index and a number, with where it is; where `among` is false is left out."""
    at = np.flatnonzero(among)
    pairs = (inverse[at].astype(np.uint64) << np.uint64(32)) | numbers[at].astype(np.uint64)
    for pair, locations in grouped(pairs, at):
        yield pair >> 32, pair & _U32_MAX, locations


def _number(value: object) -> int:
    """A number as it is packed: 0 where there is none, `OTHER` for one that is not a whole number from 1 to 2³² - 2."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return int(value) if 0 < value < OTHER and value == int(value) else OTHER


def _apply_statuses(statuses: dict[str, str], patch: dict[str, Any]) -> None:
    if "modules" in patch:
        modules = patch["modules"]
        if not isinstance(modules, dict):
            for name in [name for name in statuses if name not in {AGENT, HUB}]:
                del statuses[name]
        else:
            for name, module in modules.items():
                _apply_status(statuses, name, module)
    if "systemModules" in patch:
        system = patch["systemModules"]
        if not isinstance(system, dict):
            statuses.pop(AGENT, None)
            statuses.pop(HUB, None)
        else:
            for key, name in (("edgeAgent", AGENT), ("edgeHub", HUB)):
                if key in system:
                    _apply_status(statuses, name, system[key])


def _apply_status(statuses: dict[str, str], name: str, module: object) -> None:
    if not isinstance(module, dict):
        statuses.pop(name, None)
    elif "runtimeStatus" in module:
        status = module["runtimeStatus"]
        if isinstance(status, str):
            statuses[name] = status
        else:
            statuses.pop(name, None)


def as_desired(desired: Signature, reported: Signature) -> bool:
    """Whether every module that is desired is reported in its desired status; others do not matter."""
    statuses = dict(reported)
    return all(statuses.get(name) == status for name, status in desired)
