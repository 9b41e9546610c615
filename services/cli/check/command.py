"""`twinfold check`: manifests held against the production checklist, without a server."""

import enum
import io
import sys
import time
from collections.abc import Sequence
from typing import Annotated, TextIO

import msgspec
import typer

from events.manifest.problem import Severity
from events.readiness import check as readiness
from events.readiness.finding import Finding
from events.readiness.profile import PROFILES, Profile
from events.readiness.subject import Document, ReadinessSubject
from events.readiness.waiver import Waiver
from events.rich_console import console
from events.terminal import complain, complain_of
from events.visible import visible_json
from services.cli.check.check_files import (
    document_of,
    read_baseline,
    read_source,
    read_waivers,
    write_baseline,
    write_manifest,
)
from services.cli.check.check_result import CheckedFile, CheckResult, SourceFile, failing, fingerprints
from services.cli.check.json_report import as_json, as_sarif
from services.cli.check.json_text import edited
from services.cli.check.junit_report import as_junit
from services.cli.check.text_report import show
from services.cli.inputs import STANDARD_INPUT, InputUnreadable

FOUND = 1
UNREADABLE = 2

# Every pass mends what does not touch the same place; two rules seldom do.
_PASSES_MAX = 20


class ProfileName(enum.StrEnum):
    """The profiles."""

    production = "production"
    development = "development"
    constrained = "constrained"


class Format(enum.StrEnum):
    """How a report is written."""

    text = "text"
    json = "json"
    sarif = "sarif"
    junit = "junit"


class ParsedFile(msgspec.Struct, frozen=True):
    """A file, and what it says."""

    source: SourceFile
    document: Document


class CheckOptions(msgspec.Struct, frozen=True):
    """What files are held by, at a time in milliseconds."""

    profile: Profile
    now: int
    waivers: tuple[Waiver, ...]


def check(
    files: Annotated[list[str], typer.Argument(help="Manifests or templates, or - for standard input.")],
    *,
    profile: Annotated[ProfileName, typer.Option(help="Which rules hold.")] = ProfileName.production,
    merge_onto: Annotated[
        list[str] | None, typer.Option(help="Merge each file onto this manifest; again for layers, in their order.")
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended safely, in the files.")] = False,
    format_: Annotated[Format, typer.Option("--format", help="How the report is written.")] = Format.text,
    baseline: Annotated[str | None, typer.Option(help="A file of findings that are known, and do not count.")] = None,
    write_baseline_to: Annotated[
        str | None, typer.Option("--write-baseline", help="Write today's findings to this file.")
    ] = None,
    fail_on: Annotated[Severity, typer.Option(help="The least severity that counts.")] = Severity.WARNING,
    waivers: Annotated[str | None, typer.Option(help="A file of waivers, in TOML or JSON.")] = None,
) -> None:
    """Check manifests against the production checklist. It exits with 1 if there are findings that count.

    With a file that cannot be read it reports on all others, mends nothing, and exits with 2.

    Example: twinfold check deployment.json --profile constrained --fail-on error
    """
    fix_asked = fix
    try:
        file_waivers = read_waivers(waivers) if waivers else ()
        baseline_fingerprints = read_baseline(baseline) if baseline else None
        bases = [_read(location) for location in merge_onto or []]
        # All of them before any is mended: what cannot be read leaves everything as it was.
        parsed_files, unreadable = _readable(files)
        fix = fix and not unreadable
        options = CheckOptions(PROFILES[profile.value], int(time.time() * 1000), file_waivers)
        checked = [_checked(parsed, bases, options, baseline=baseline_fingerprints, fix=fix) for parsed in parsed_files]
        if write_baseline_to and not unreadable:
            write_baseline(write_baseline_to, fingerprints(checked))
    except InputUnreadable as error:
        # Here and not in services.cli.exits, which knows all that can go wrong with Redis.
        complain_of(error)
        raise typer.Exit(UNREADABLE) from error
    mended = next((result.source.text for result in checked if fix and result.source.location == STANDARD_INPUT), None)
    if mended is not None:
        sys.stdout.buffer.write(mended.encode())
    if checked or format_ is not Format.text:
        _report(CheckResult(checked, unreadable), format_, fail_on, sys.stdout if mended is None else sys.stderr)
    for unread in unreadable:
        complain_of(unread)
    if unreadable:
        if fix_asked or write_baseline_to:
            complain("twinfold: no file and no baseline was written")
        raise typer.Exit(UNREADABLE)
    if not write_baseline_to and failing(checked, fail_on):
        raise typer.Exit(FOUND)


def _readable(locations: Sequence[str]) -> tuple[list[ParsedFile], list[InputUnreadable]]:
    """The files that can be read, and why the others cannot."""
    readable, unreadable = list[ParsedFile](), list[InputUnreadable]()
    for location in locations:
        try:
            readable.append(_read(location))
        except InputUnreadable as error:
            unreadable.append(error)
    return readable, unreadable


def _read(location: str) -> ParsedFile:
    source = read_source(location)
    return ParsedFile(source, document_of(source))


def _checked(
    parsed: ParsedFile,
    bases: Sequence[ParsedFile],
    options: CheckOptions,
    *,
    baseline: frozenset[str] | None,
    fix: bool,
) -> CheckedFile:
    fixed: tuple[Finding, ...] = ()
    if fix:
        parsed, fixed = _mended(parsed, bases, options)
    report = readiness.check(_subject(parsed, bases), options.profile, now=options.now, waivers=options.waivers)
    sources = {read.document.name: read.source for read in (*bases, parsed)}
    return CheckedFile(parsed.source, sources, report, baseline, fixed)


def _mended(
    parsed: ParsedFile, bases: Sequence[ParsedFile], options: CheckOptions
) -> tuple[ParsedFile, tuple[Finding, ...]]:
    """The file once there is nothing left to mend, as it is written then, and what was mended."""
    fixed: list[Finding] = []
    for _ in range(_PASSES_MAX):
        fixes = readiness.fixes(_subject(parsed, bases), options.profile, now=options.now, waivers=options.waivers)
        if not fixes:
            break
        source = SourceFile(
            parsed.source.location, edited(parsed.source.text, [step for _, steps in fixes for step in steps])
        )
        parsed = ParsedFile(source, document_of(source))
        fixed += (finding for finding, _ in fixes)
    if fixed and parsed.source.location != STANDARD_INPUT:
        write_manifest(parsed.source)
    return parsed, tuple(fixed)


def _subject(parsed: ParsedFile, bases: Sequence[ParsedFile]) -> ReadinessSubject:
    return ReadinessSubject(tuple(read.document for read in (*bases, parsed)))


def _report(files: CheckResult, format_: Format, fail_on: Severity, stream: TextIO) -> None:
    if isinstance(stream, io.TextIOWrapper):
        # Names in a manifest can have characters that a terminal has not.
        stream.reconfigure(errors="backslashreplace")
    match format_:
        case Format.text:
            show(console(error=stream is sys.stderr, width=None), files)
        case Format.json:
            stream.write(visible_json(as_json(files)))
        case Format.sarif:
            stream.write(visible_json(as_sarif(files)))
        case Format.junit:
            stream.write(as_junit(files, fail_on))
