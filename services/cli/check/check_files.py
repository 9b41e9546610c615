"""The files that `twinfold check` reads and writes: manifests, waivers, baselines; and the findings in a manifest."""

import codecs
import contextlib
import json
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from events.canonical import Json
from events.readiness.catalogue import BY_ID
from events.readiness.check import ReadinessReport
from events.readiness.finding import Finding
from events.readiness.subject import Document, read_document
from events.readiness.waiver import Waiver
from services.cli.check.json_text import TextPosition, TextSpan, doubled, line_of, spans
from services.cli.inputs import STANDARD_INPUT, InputUnreadable, read_text


class SourceFile(msgspec.Struct, frozen=True, dict=True):
    """A file's name as the user typed it, its text, and the document in it."""

    location: str
    text: str
    document: Document

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


class WaiverFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file of `--waivers`."""

    waivers: tuple[Waiver, ...] = ()


class BaselineFinding(msgspec.Struct, frozen=True):
    """A finding in a baseline. Only the fingerprint is compared; the other members are for people."""

    fingerprint: str
    rule: str
    document: str
    module: str


class Baseline(msgspec.Struct, frozen=True):
    """The file of `--baseline`."""

    version: Literal[1]
    findings: tuple[BaselineFinding, ...]


def source_of(location: str, text: str) -> SourceFile:
    """A manifest from its text. The name of its document is its id, or the file as the user typed it.

    Raises:
        InputUnreadable: it is not JSON.
    """
    with _usable(location):
        raw: Json = json.loads(text, parse_constant=_refused)
    name = "-" if location == STANDARD_INPUT else str(PurePosixPath(Path(location).as_posix()))
    template = ".template." in Path(location).name
    return SourceFile(location, text, read_document(raw, name=name, template=template, doubled=doubled(text)))


def write_manifest(source: SourceFile) -> None:
    """Write a text to its file, and keep the byte order mark that the file has.

    Raises:
        InputUnreadable: the file cannot be written.
    """
    path = Path(source.location)
    with _usable(source.location):
        # Without its mark the first line of the file would show as changed in a code review.
        mark = codecs.BOM_UTF8 if path.read_bytes().startswith(codecs.BOM_UTF8) else b""
        path.write_bytes(mark + source.text.encode())


def read_waivers(location: str) -> tuple[Waiver, ...]:
    """The waivers in a TOML file, or in a JSON file if its name ends with `.json`.

    Raises:
        InputUnreadable: it cannot be parsed, lacks a member, or names an unknown rule.
    """
    text = read_text(location)
    with _usable(location):
        decode = msgspec.json.decode if location.endswith(".json") else msgspec.toml.decode
        waivers = decode(text.encode(), type=WaiverFile).waivers
    for waiver in waivers:
        if waiver.rule not in BY_ID:
            why = f"unknown rule {waiver.rule!r}; docs/reference/readiness.md lists all rules"
            raise InputUnreadable(location, why)
    return waivers


def read_baseline(location: str) -> frozenset[str]:
    """The fingerprints in a baseline.

    Raises:
        InputUnreadable: the file is not a baseline.
    """
    text = read_text(location)
    with _usable(location):
        baseline = msgspec.json.decode(text.encode(), type=Baseline)
    return frozenset(finding.fingerprint for finding in baseline.findings)


def write_baseline(location: str, files: Iterable[CheckedFile]) -> None:
    """Write a baseline of all findings, one member a line, so that a code review shows which findings were added.

    Raises:
        InputUnreadable: the file cannot be written.
    """
    findings = {finding.fingerprint: finding for checked in files for finding in checked.report.findings}
    entries = tuple(
        BaselineFinding(fingerprint, finding.rule, finding.document, finding.module)
        for fingerprint, finding in sorted(findings.items(), key=lambda entry: entry[0])
    )
    with _usable(location):
        Path(location).write_bytes(msgspec.json.format(msgspec.json.encode(Baseline(1, entries)), indent=2) + b"\n")


@contextlib.contextmanager
def _usable(location: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RecursionError, msgspec.DecodeError) as error:
        raise InputUnreadable(location, str(error)) from error


def _refused(constant: str) -> Json:
    raise ValueError(f"{constant} is not JSON")
