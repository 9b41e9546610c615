"""Whom the rules of readiness stop at in one partition, from what is kept of it."""

from collections.abc import Callable, Mapping
from functools import cached_property

import msgspec
import numpy as np
from pyroaring import BitMap

from events.canonical import JsonObject
from events.fleet.configuration import NOTHING
from events.fleet.rows import Row
from events.readiness.effective import Found, read_found
from events.views.kept import Kept
from events.views.reading import row_numbers, rows_of

READINESS_HASHES = ("readiness", "rows")
READINESS_ARRAYS = ("row_of",)


class Stopped(msgspec.Struct, frozen=True):
    """Whom a rule stops at: `found` have a finding of it that counts, `waived` one that does not; some have both."""

    found: BitMap
    waived: BitMap


Judge = Callable[["ReadinessReading", Row, str, str], tuple[bool, bool]]
"""Of a rule's findings on a module of a row's configuration: whether some count, and whether some are waived."""


class ReadinessReading:
    """Sets of devices by rule; `kept` holds READINESS_HASHES and READINESS_ARRAYS.

    Where `is_stale`, what rules of another version found is kept: then `kept` must hold `configurations`, too.
    """

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._rows = rows_of(kept)
        wanted = {row.configuration for row in self._rows.values()} - {NOTHING.digest}
        self._found = {digest: read_found(kept.hashes["readiness"].get(digest)) for digest in wanted}

    @property
    def is_stale(self) -> bool:
        """Whether a configuration has yet to be checked by the rules of this version."""
        return None in self._found.values()

    def rules(self) -> frozenset[str]:
        """The rules that stop at anybody, waived or not."""
        return frozenset(rule for row in self._rows.values() for rule in self._of(row))

    def stopped(self, rule: str, judge: Judge) -> Stopped:
        """Whom a rule stops at."""
        found, waived = [], []
        for number, row in self._rows.items():
            verdicts = [judge(self, row, rule, module) for module in self._of(row).get(rule, ())]
            if any(counts for counts, _ in verdicts):
                found.append(number)
            if any(is_waived for _, is_waived in verdicts):
                waived.append(number)
        return Stopped(self._in_rows(found), self._in_rows(waived))

    def _of(self, row: Row) -> Mapping[str, tuple[str, ...]]:
        if row.configuration == NOTHING.digest:
            return {}
        found = self._found[row.configuration]
        if found is None:
            found = self._found[row.configuration] = Found.of(self.sections(row.configuration))
        return found.modules

    def sections(self, digest: str) -> dict[str, JsonObject]:
        """The sections of a configuration; `kept` must hold `configurations`, too."""
        sections: dict[str, JsonObject] = msgspec.json.decode(self._kept.hashes["configurations"][digest])
        return sections

    def _in_rows(self, numbers: list[int]) -> BitMap:
        return BitMap().union(*(self._members.get(number, BitMap()) for number in numbers))

    @cached_property
    def _members(self) -> dict[int, BitMap]:
        """Who is in each row, found at once for all: the score asks for every rule."""
        row_of = row_numbers(self._kept)
        in_order = np.argsort(row_of, kind="stable").astype(np.uint32)
        numbers, starts = np.unique(row_of[in_order], return_index=True)
        groups = np.split(in_order, starts[1:])
        return {int(number): BitMap(some) for number, some in zip(numbers, groups, strict=True)}
