"""The result of a check, and which of its findings count."""

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
    """A file's name as the user typed it, and its text."""

    location: str
    text: str

    def line(self, pointer: str) -> TextPosition | None:
        """The position of an element; `None` if the text does not have it."""
        span = self._spans.get(pointer)
        return line_of(self.text, span.name) if span is not None else None

    # Every finding asks for its line, and the text is parsed once for all of them.
    @cached_property
    def _spans(self) -> dict[str, TextSpan]:
        return spans(self.text)


class CheckedFile(msgspec.Struct, frozen=True):
    """The report on a file, with the sources of its documents by their names.

    `baseline` has fingerprints, and is `None` without one. `fixed` are the findings that `--fix` removed before.
    """

    source: SourceFile
    sources: dict[str, SourceFile]
    report: ReadinessReport
    baseline: frozenset[str] | None = None
    fixed: tuple[Finding, ...] = ()

    @property
    def new(self) -> list[Finding]:
        """Findings that are not in the baseline."""
        return [finding for finding in self.report.findings if not self.knows(finding)]

    def knows(self, finding: Finding) -> bool:
        """Whether the baseline has a finding."""
        return self.baseline is not None and finding.fingerprint in self.baseline

    def source_of(self, finding: Finding) -> SourceFile:
        """The file that the finding's element was written in."""
        return self.sources.get(finding.document, self.source)

    def line(self, finding: Finding) -> TextPosition | None:
        """The position of the finding's element in that file."""
        return self.source_of(finding).line(finding.pointer)


class CheckResult(msgspec.Struct, frozen=True):
    """The files that were checked, and the errors of those that could not be read."""

    checked: Sequence[CheckedFile]
    unreadable: Sequence[InputUnreadable] = ()


def counts(finding: Finding, fail_on: Severity) -> bool:
    """Whether a finding is at least as severe as `fail_on`."""
    return RANK[finding.severity] <= RANK[fail_on]


def failing(files: Iterable[CheckedFile], fail_on: Severity) -> bool:
    """Whether any file has a new finding that counts."""
    return any(counts(finding, fail_on) for checked in files for finding in checked.new)


def summary(all_files: CheckResult) -> str:
    """One line: how many new findings of each severity there are, and how many are known, waived or fixed."""
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
    """The findings for a baseline, one for each fingerprint, in the order of fingerprints."""
    by_fingerprint = {finding.fingerprint: finding for checked in files for finding in checked.report.findings}
    return [by_fingerprint[name] for name in sorted(by_fingerprint)]
