"""What edge agents answered, per ordinal: for which version, with which code, and how their modules are."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from events.fleet.configuration import AGENT, HUB
from events.fleet.packed import Packed

OK = 200
NOT_RUNNING = 406
"""The agent's own word for *I am going down*: neither success nor failure (contract/edge.md §1.2)."""

_U32_MAX = 2**32 - 1
OTHER = _U32_MAX
"""Stands for a reported number that no agent means as a version or a code; it is no success."""

Signature = tuple[tuple[str, str], ...]


class Signatures:
    """Distinct combinations of module runtime statuses, numbered as they came up; 0 is *nothing reported*."""

    def __init__(self) -> None:
        self.by_number: dict[int, Signature] = {0: ()}
        self.next_number = 1
        self._numbers: dict[Signature, int] = {(): 0}
        self._uses: dict[int, int] = {}
        self.changed: set[int] = set()

    def swap(self, old: int, statuses: dict[str, str]) -> int:
        """One ordinal goes from a signature to the one of these statuses; answers its number."""
        signature = tuple(sorted(statuses.items()))
        number = self._numbers.get(signature)
        if number is None:
            number = self.next_number
            self.next_number += 1
            self._numbers[signature] = number
            self.by_number[number] = signature
            self.changed.add(number)
        if number != old:
            self._uses[number] = self._uses.get(number, 0) + 1
            self._uses[old] = self._uses.get(old, 0) - 1
            if self._uses[old] == 0 and old != 0:
                del self._uses[old], self._numbers[self.by_number.pop(old)]
                self.changed.add(old)
        return number

    def restore(self, number: int, signature: Signature, uses: int) -> None:
        """Put a stored signature back."""
        self._numbers[signature] = number
        self.by_number[number] = signature
        self._uses[number] = uses


class Answers:
    """The answers of a partition's agents, and the sets that follow from them and from the assignments."""

    def __init__(self) -> None:
        self.versions = Packed()
        self.codes = Packed()
        self.signature_of = Packed()
        self.signatures = Signatures()
        self.sets: dict[str, BitMap] = {name: BitMap() for name in SETS}
        self.stale = BitMap()

    def reserve(self, count: int) -> None:
        """Make room for ordinals below `count`."""
        for packed in (self.versions, self.codes, self.signature_of):
            packed.reserve(count)

    def fold(self, ordinal: int, patch: dict[str, Any]) -> None:
        """Fold a merge patch to the reported properties of an `$edgeAgent` twin; what is not as an agent reports it is no answer."""
        if "lastDesiredVersion" in patch:
            self.versions[ordinal] = _number(patch["lastDesiredVersion"])
        if "lastDesiredStatus" in patch:
            status = patch["lastDesiredStatus"]
            if not isinstance(status, dict):
                self.codes[ordinal] = 0
            elif "code" in status:
                self.codes[ordinal] = _number(status["code"])
        if "modules" in patch or "systemModules" in patch:
            old = self.signature_of[ordinal]
            statuses = dict(self.signatures.by_number[old])
            _fold_statuses(statuses, patch)
            new = self.signatures.swap(old, statuses)
            if new != old:
                self.signature_of[ordinal] = new
        self.stale.add(ordinal)

    def forget(self, ordinal: int) -> None:
        """The device is gone, or begins anew."""
        self.versions[ordinal] = 0
        self.codes[ordinal] = 0
        self.signature_of[ordinal] = self.signatures.swap(self.signature_of[ordinal], {})
        self.stale.add(ordinal)

    def signature_counts(self) -> Counter[int]:
        """How many ordinals have each signature."""
        return self.signature_of.counts()

    def judge(
        self, rows: Packed, *, agent_version: Callable[[int], int], as_desired: Callable[[int, Signature], bool]
    ) -> None:
        """Bring the sets up to date for the ordinals whose answer or assignment changed.

        `agent_version` gives a row's `$edgeAgent` version; `as_desired` says whether module statuses are those a row wants.
        """
        if not self.stale:
            return
        ordinals = np.array(self.stale, dtype=np.uint32)
        row = rows.take(ordinals)
        distinct, inverse = np.unique(row, return_inverse=True)
        wanted = np.array([agent_version(int(number)) for number in distinct], dtype=np.uint32)[inverse]
        codes = self.codes.take(ordinals)
        answered = (wanted > 0) & (self.versions.take(ordinals) == wanted) & (codes != 0)
        ok = answered & (codes == OK)
        well = ok & self._as_desired(row, self.signature_of.take(ordinals), among=ok, as_desired=as_desired)
        judged = {
            "answered": answered,
            "succeeded": ok,
            "failed": answered & ~ok,
            "healthy": well,
            "unhealthy": (answered & (codes != NOT_RUNNING) & ~ok) | (ok & ~well),
        }
        for name, holds in judged.items():
            self.sets[name] -= self.stale
            self.sets[name] |= BitMap(ordinals[holds])
        self.stale = BitMap()

    def _as_desired(
        self,
        row: npt.NDArray[np.uint32],
        signature: npt.NDArray[np.uint32],
        *,
        among: npt.NDArray[np.bool_],
        as_desired: Callable[[int, Signature], bool],
    ) -> npt.NDArray[np.bool_]:
        pairs = (row.astype(np.uint64) << np.uint64(32)) | signature.astype(np.uint64)
        result = np.zeros(len(row), dtype=np.bool_)
        distinct, inverse = np.unique(pairs[among], return_inverse=True)
        verdicts = [as_desired(int(pair) >> 32, self.signatures.by_number[int(pair) & _U32_MAX]) for pair in distinct]
        result[among] = np.array(verdicts, dtype=np.bool_)[inverse] if verdicts else False
        return result


SETS = ("answered", "failed", "healthy", "succeeded", "unhealthy")


def _number(value: object) -> int:
    """A number as it is packed: 0 where there is none, `OTHER` for one that is not a whole number from 1 to 2³² - 2."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return int(value) if 0 < value < OTHER and value == int(value) else OTHER


def _fold_statuses(statuses: dict[str, str], patch: dict[str, Any]) -> None:
    if "modules" in patch:
        modules = patch["modules"]
        if not isinstance(modules, dict):
            for name in [name for name in statuses if name not in {AGENT, HUB}]:
                del statuses[name]
        else:
            for name, module in modules.items():
                _fold_status(statuses, name, module)
    if "systemModules" in patch:
        system = patch["systemModules"]
        if not isinstance(system, dict):
            statuses.pop(AGENT, None)
            statuses.pop(HUB, None)
        else:
            for key, name in (("edgeAgent", AGENT), ("edgeHub", HUB)):
                if key in system:
                    _fold_status(statuses, name, system[key])


def _fold_status(statuses: dict[str, str], name: str, module: object) -> None:
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
