"""The answers of devices to their configurations, per ordinal: versions, codes, deliveries, and module statuses."""

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
"""The agent's code for its own shutdown: neither success nor failure (contract/edge.md §1.2)."""

_U32_MAX = 2**32 - 1
OTHER = _U32_MAX
"""Replaces a reported number that cannot be a version or a code; it is never a success."""

_SYSTEM_NAMES = {"edgeAgent": AGENT, "edgeHub": HUB}
_FIRST_VERSION = 1
"""The version of a section that never changed, which needs no delivery."""

Signature = tuple[tuple[str, str], ...]
"""The runtime statuses of a device by module, sorted."""

Deliveries = tuple[tuple[str, int], ...]
"""The delivered versions of a device by module, sorted."""

Value = TypeVar("Value", str, int)
Numbers = npt.NDArray[np.uint32]
Truths = npt.NDArray[np.bool_]


class Combinations(Generic[Value]):
    """Distinct small mappings that many ordinals share, numbered in order of appearance; 0 is the empty mapping."""

    # A device stores a number of 4 bytes instead of its mapping: the cost follows the few combinations (docs/decisions/0032).
    def __init__(self) -> None:
        self.by_number: dict[int, tuple[tuple[str, Value], ...]] = {0: ()}
        self.next_number = 1
        self._numbers: dict[tuple[tuple[str, Value], ...], int] = {(): 0}
        self._uses: dict[int, int] = {}
        self.changed: set[int] = set()

    def swap(self, old: int, members: Mapping[str, Value]) -> int:
        """Move an ordinal from a combination to the one with these members; returns its number."""
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
        """Restore a stored combination."""
        self._numbers[combination] = number
        self.by_number[number] = combination
        self._uses[number] = uses


class Expected(msgspec.Struct, frozen=True):
    """The answers that are expected of the devices of one assignment.

    `agent` and `hub` are the versions that the system modules must answer for, 0 for none. `runtime` is a mark of the modules
    that the agent must run (0: none), and `statuses` their desired statuses. `delivered` are the versions of other sections, by
    module, with `$device` for the device's own twin; of these, `of_edge` are modules that the agent runs.
    """

    agent: int = 0
    hub: int = 0
    runtime: int = 0
    statuses: Signature = ()
    delivered: Mapping[str, int] = {}
    of_edge: frozenset[str] = frozenset()


def lacking(expected: Mapping[str, int], deliveries: Deliveries) -> frozenset[str]:
    """The sections of which a device has not received the expected version."""
    delivered = dict(deliveries)
    return frozenset(name for name, version in expected.items() if delivered.get(name, _FIRST_VERSION) < version)


class SystemAnswers:
    """The last answer of one of the two system modules, per device: its version and its code."""

    def __init__(self) -> None:
        self.versions, self.codes = Packed(), Packed()

    def apply(self, ordinal: int, patch: dict[str, Any]) -> None:
        """Apply a merge patch to the module's reported properties; values that no such module reports are no answer."""
        if "lastDesiredVersion" in patch:
            self.versions[ordinal] = _number(patch["lastDesiredVersion"])
        if "lastDesiredStatus" in patch:
            status = patch["lastDesiredStatus"]
            if not isinstance(status, dict):
                self.codes[ordinal] = 0
            elif "code" in status:
                self.codes[ordinal] = _number(status["code"])

    def has_answered(self, ordinal: int, version: int) -> bool:
        """Whether the module of a device has answered for a version or a later one."""
        return 0 < version <= self.versions[ordinal] != OTHER and self.codes[ordinal] != 0

    def answered(self, ordinals: Numbers, expected: Numbers) -> tuple[Truths, Numbers]:
        """As `has_answered` for many ordinals, with the codes."""
        versions, codes = self.versions.take(ordinals), self.codes.take(ordinals)
        return (expected > 0) & (versions >= expected) & (versions != OTHER) & (codes != 0), codes


class DeviceAnswers:
    """The answers of a partition's devices, and the sets that follow from the answers and the assignments."""

    def __init__(self) -> None:
        self.agent, self.hub = SystemAnswers(), SystemAnswers()
        self.signature_of, self.signatures = Packed(), Combinations[str]()
        self.runtime_of = Packed()
        """The `Expected.runtime` that the agent's last report of its modules was about."""
        self.delivered_of, self.deliveries = Packed(), Combinations[int]()
        self.sets: dict[str, BitMap] = {name: BitMap() for name in SETS}
        self.undelivered: dict[str, BitMap] = {}
        """By module, the ordinals that have not received its section."""
        self.changed_undelivered: set[str] = set()
        self.stale = BitMap()
        self.rejudged = BitMap()
        """The ordinals that joined or left a set, or `undelivered`, since the counts of deployments were updated."""

    def reserve(self, count: int) -> None:
        """Make room for ordinals below `count`."""
        agent, hub = self.agent, self.hub
        of_systems = (agent.versions, agent.codes, hub.versions, hub.codes)
        for packed in (*of_systems, self.signature_of, self.runtime_of, self.delivered_of):
            packed.reserve(count)

    def apply_agent(self, ordinal: int, patch: dict[str, Any], expected: Expected) -> None:
        """Apply a merge patch to the reported properties of a device's `$edgeAgent`; `expected` is that of its assignment."""
        self.agent.apply(ordinal, patch)
        if "modules" in patch or "systemModules" in patch:
            old = self.signature_of[ordinal]
            statuses = dict(self.signatures.by_number[old])
            _apply_statuses(statuses, patch)
            new = self.signatures.swap(old, statuses)
            if new != old:
                self.signature_of[ordinal] = new
            # In its first report after an update an agent still reports the statuses of before (contract/edge.md §1.2), so
            # statuses count only from a report with or after its answer for these module definitions.
            if self.agent.has_answered(ordinal, expected.agent) and self.runtime_of[ordinal] != expected.runtime:
                self.runtime_of[ordinal] = expected.runtime
        self.stale.add(ordinal)

    def apply_hub(self, ordinal: int, patch: dict[str, Any]) -> None:
        """As `apply_agent` for `$edgeHub`."""
        self.hub.apply(ordinal, patch)
        self.stale.add(ordinal)

    def apply_delivered(self, ordinal: int, versions: Mapping[str, int]) -> None:
        """Record that a device has received these versions of sections."""
        old = self.delivered_of[ordinal]
        delivered = dict(self.deliveries.by_number[old])
        for name, version in versions.items():
            # The maximum makes the result independent of the order in which deliveries arrive.
            delivered[name] = max(version, delivered.get(name, _FIRST_VERSION))
        self.delivered_of[ordinal] = self.deliveries.swap(old, delivered)
        self.stale.add(ordinal)

    def forget(self, ordinal: int) -> None:
        """Delete the answers of a retired device."""
        agent, hub = self.agent, self.hub
        for packed in (agent.versions, agent.codes, hub.versions, hub.codes, self.runtime_of):
            packed[ordinal] = 0
        self.signature_of[ordinal] = self.signatures.swap(self.signature_of[ordinal], {})
        self.delivered_of[ordinal] = self.deliveries.swap(self.delivered_of[ordinal], {})
        self.stale.add(ordinal)

    def judge(self, assignments: Packed, expected_of: Callable[[int], Expected]) -> None:
        """Update the sets for the ordinals whose answers or assignment changed; `expected_of` is by assignment number."""
        if not self.stale:
            return
        ordinals = np.array(self.stale, dtype=np.uint32)
        numbers, inverse = np.unique(assignments.take(ordinals), return_inverse=True)
        expected = [expected_of(int(number)) for number in numbers]
        agent_expected, hub_expected, runtime = (
            np.array([getattr(each, member) for each in expected], dtype=np.uint32)[inverse]
            for member in ("agent", "hub", "runtime")
        )
        by_agent, agent_codes = self.agent.answered(ordinals, agent_expected)
        # The contract's queries for success and failure require the exact version; `acknowledged` accepts later ones.
        exact = by_agent & (self.agent.versions.take(ordinals) == agent_expected)
        by_hub, hub_codes = self.hub.answered(ordinals, hub_expected)
        is_delivered = self._deliver(ordinals, inverse, expected)
        is_ok = by_agent & (agent_codes == OK)
        # Without a changed module definition the agent sends no further report, so none is required then.
        is_fresh = is_ok & ((runtime == 0) | (self.runtime_of.take(ordinals) == runtime))
        is_desired = np.zeros(len(ordinals), dtype=np.bool_)
        for index, signature, holds in _pairs(inverse, self.signature_of.take(ordinals), is_fresh):
            is_desired[holds] = as_desired(expected[index].statuses, self.signatures.by_number[signature])
        is_refused = (by_agent & _is_failure(agent_codes)) | (by_hub & _is_failure(hub_codes))
        needs_no_hub = hub_expected == 0
        acknowledged = by_agent & (by_hub | needs_no_hub) & is_delivered
        judged = {
            "acknowledged": acknowledged,
            "succeeded": exact & (agent_codes == OK),
            "failed": exact & (agent_codes != OK),
            "healthy": acknowledged & is_desired & (needs_no_hub | (hub_codes == OK)),
            "refused": is_refused,
            "unhealthy": is_refused | (is_fresh & ~is_desired),
        }
        for name, holds in judged.items():
            members = self.sets[name]
            # Most reports repeat what is known; the sets then stay, and no deployment is counted again.
            if difference := (members & self.stale) ^ BitMap(ordinals[holds]):
                members ^= difference
                self.rejudged |= difference
        self.stale = BitMap()

    def _deliver(self, ordinals: Numbers, inverse: npt.NDArray[np.intp], expected: list[Expected]) -> Truths:
        """Update `undelivered`; returns which devices have every section of the modules that the agent runs."""
        result, by_name = np.ones(len(ordinals), dtype=np.bool_), dict[str, BitMap]()
        among = np.array([bool(each.delivered) for each in expected], dtype=np.bool_)[inverse]
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
                self.rejudged |= members ^ previous
                self.changed_undelivered.add(name)
                self.undelivered[name] = members
                if not members:
                    del self.undelivered[name]
        return result


SETS = ("acknowledged", "failed", "healthy", "refused", "succeeded", "unhealthy")
"""`failed` and `succeeded` follow the contract and the agent alone; `refused` answered with a failure code."""


def _is_failure(codes: Numbers) -> Truths:
    return np.isin(codes, (OK, NOT_RUNNING), invert=True)


def _pairs(
    inverse: npt.NDArray[np.intp], numbers: Numbers, among: Truths
) -> Iterator[tuple[int, int, npt.NDArray[np.intp]]]:
    """Each distinct pair of an index and a number with its locations, where `among` is true."""
    # Devices with equal pairs have equal results, so the loop body runs once for each pair and not for each device.
    at = np.flatnonzero(among)
    pairs = (inverse[at].astype(np.uint64) << np.uint64(32)) | numbers[at].astype(np.uint64)
    for pair, locations in grouped(pairs, at):
        yield pair >> 32, pair & _U32_MAX, locations


def _number(value: object) -> int:
    """A reported number in packed form: 0 for no number, `OTHER` unless it is a whole number from 1 to 2³² - 2."""
    # bool is an int in Python; without the check, true would be the version 1.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return int(value) if 0 < value < OTHER and value == int(value) else OTHER


def _apply_statuses(statuses: dict[str, str], patch: dict[str, Any]) -> None:
    for group, system_names in (("modules", None), ("systemModules", _SYSTEM_NAMES)):
        if group not in patch:
            continue
        modules = patch[group]
        if not isinstance(modules, dict):
            # The group was removed: no module of it has a status.
            modules = dict.fromkeys(system_names or statuses.keys() - {AGENT, HUB})
        elif system_names is not None:
            modules = {key: module for key, module in modules.items() if key in system_names}
        for key, module in modules.items():
            if isinstance(module, dict) and "runtimeStatus" not in module:
                continue
            name = key if system_names is None else system_names[key]
            status = module["runtimeStatus"] if isinstance(module, dict) else None
            if isinstance(status, str):
                statuses[name] = status
            else:
                statuses.pop(name, None)


def as_desired(desired: Signature, reported: Signature) -> bool:
    """Whether every desired module is reported in its desired status; further modules do not matter."""
    statuses = dict(reported)
    return all(statuses.get(name) == status for name, status in desired)
