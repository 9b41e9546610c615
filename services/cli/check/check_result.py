"""A file that was checked, and what of it counts."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property

import msgspec

from events.manifest.problem import Severity
from events.number_text import counted
from events.readiness.check import RANK, ReadinessReport
from events.readiness.finding import Finding
from services.cli.check.json_text import TextPosition, TextSpan, line_of, spans
from services.cli.inputs import InputUnreadable


class SourceFile(msgspec.Struct, frozen=True, dict=True):
    """A file's place as it was given, and its text."""

    location: str
    text: str

    def line(self, pointer: str) -> TextPosition | None:
        """Where an element stands; `None` if it cannot be told."""
        span = self._spans.get(pointer)
        return line_of(self.text, span.name) if span is not None else None

    @cached_property
    def _spans(self) -> dict[str, TextSpan]:
        return spans(self.text)


class CheckedFile(msgspec.Struct, frozen=True):
    """The report on a file, with the sources of its documents by their names.

    `known` are fingerprints of the baseline, `None` without one. `fixed` are findings that were mended before.
    """

    source: SourceFile
    sources: dict[str, SourceFile]
    report: ReadinessReport
    known: frozenset[str] | None = None
    fixed: tuple[Finding, ...] = ()

    @property
    def new(self) -> list[Finding]:
        """Findings that the baseline does not know."""
        return [finding for finding in self.report.findings if not self.knows(finding)]

    def knows(self, finding: Finding) -> bool:
        """Whether the baseline has a finding."""
        return self.known is not None and finding.fingerprint in self.known

    def source_of(self, finding: Finding) -> SourceFile:
        """The file that the finding's element was written in."""
        return self.sources.get(finding.document, self.source)

    def line(self, finding: Finding) -> TextPosition | None:
        """Where the finding's element stands in it."""
        return self.source_of(finding).line(finding.pointer)


class CheckResult(msgspec.Struct, frozen=True):
    """All files that were asked about: those that were checked, and those that could not be read."""

    checked: Sequence[CheckedFile]
    unreadable: Sequence[InputUnreadable] = ()


def counts(finding: Finding, fail_on: Severity) -> bool:
    """Whether a finding is as bad as that, or worse."""
    return RANK[finding.severity] <= RANK[fail_on]


def failing(files: Iterable[CheckedFile], fail_on: Severity) -> bool:
    """Whether any file has a new finding that counts."""
    return any(counts(finding, fail_on) for checked in files for finding in checked.new)


def summary(all_files: CheckResult) -> str:
    """How many findings of each severity there are, and what became of the others, in one line."""
    files = all_files.checked
    new = Counter(finding.severity for checked in files for finding in checked.new)
    fixable = sum(finding.fixable for checked in files for finding in checked.report.findings)
    parts = [
        f"{counted(len(files), 'file')}: "
        + ", ".join(counted(new[severity], severity.value) for severity in RANK if new[severity])
    ]
    if not new:
        parts = [f"{counted(len(files), 'file')}: no findings"]
    in_baseline = sum(len(checked.report.findings) - len(checked.new) for checked in files)
    waived = sum(len(checked.report.waived) for checked in files)
    fixed = sum(len(checked.fixed) for checked in files)
    for count, text in ((in_baseline, "known from the baseline"), (waived, "waived"), (fixed, "fixed")):
        if count:
            parts.append(f"{count} {text}")
    if all_files.unreadable:
        parts.append(f"{counted(len(all_files.unreadable), 'file')} cannot be read")
    if fixable:
        parts.append(f"{fixable} can be fixed with --fix")
    return "; ".join(parts)


def fingerprints(files: Iterable[CheckedFile]) -> list[Finding]:
    """Findings for a baseline, each fingerprint once, in the order of their fingerprints."""
    by_fingerprint = {finding.fingerprint: finding for checked in files for finding in checked.report.findings}
    return [by_fingerprint[name] for name in sorted(by_fingerprint)]
