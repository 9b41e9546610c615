"""`twinfold check`: checks manifests against the production checklist, without a server."""

import enum
import io
import sys
from collections.abc import Sequence
from typing import Annotated, Literal, TextIO

import msgspec
import typer

from events.clock import now_ms
from events.manifest.problem import Severity
from events.readiness import check as readiness
from events.readiness.finding import Finding
from events.readiness.profile import PROFILES, Profile
from events.readiness.subject import Document, ReadinessSubject
from events.readiness.waiver import Waiver
from events.rich_console import console
from events.terminal import complain, complain_of, visible_json
from services.cli.check.check_files import document_of, read_baseline, read_waivers, write_baseline, write_manifest
from services.cli.check.check_result import CheckedFile, CheckResult, SourceFile, failing, fingerprints
from services.cli.check.json_report import as_json, as_sarif
from services.cli.check.json_text import edited
from services.cli.check.junit_report import as_junit
from services.cli.check.text_report import show
from services.cli.inputs import STANDARD_INPUT, InputUnreadable, read_text

FOUND = 1
UNREADABLE = 2

# A pass applies the fixes that do not touch the same element. The limit ends the run of two rules
# that undo each other's fixes.
_PASSES_MAX = 20


class ProfileName(enum.StrEnum):
    """The profiles of `events.readiness.profile.PROFILES`."""

    production = "production"
    development = "development"
    constrained = "constrained"


Format = Literal["text", "json", "sarif", "junit"]


class ParsedFile(msgspec.Struct, frozen=True):
    """A file and the document in it."""

    source: SourceFile
    document: Document


class CheckOptions(msgspec.Struct, frozen=True):
    """What all files are checked by; `now` is in milliseconds, `baseline` has fingerprints."""

    profile: Profile
    now: int
    waivers: tuple[Waiver, ...]
    baseline: frozenset[str] | None
    bases: Sequence[ParsedFile]

    def subject(self, parsed: ParsedFile) -> ReadinessSubject:
        """A file as a layer over the bases."""
        return ReadinessSubject(tuple(file.document for file in (*self.bases, parsed)))


def check(
    files: Annotated[list[str], typer.Argument(help="Manifests or templates; - is standard input.")],
    *,
    profile: Annotated[ProfileName, typer.Option(help="Which rules apply.")] = ProfileName.production,
    merge_onto: Annotated[
        list[str] | None,
        typer.Option(help="Merge each file onto this manifest; can be repeated for layers, in their order."),
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Fix what can be fixed safely, in the files.")] = False,
    format_: Annotated[Format, typer.Option("--format", help="Format of the report.")] = "text",
    baseline: Annotated[str | None, typer.Option(help="A file of known findings, which do not count.")] = None,
    write_baseline_to: Annotated[
        str | None, typer.Option("--write-baseline", help="Write the findings of this run to a file, as a baseline.")
    ] = None,
    fail_on: Annotated[Severity, typer.Option(help="Lowest severity that counts.")] = Severity.WARNING,
    waivers: Annotated[str | None, typer.Option(help="A file of waivers, in TOML or JSON.")] = None,
) -> None:
    """Check manifests against the production checklist. Exits with 1 if there are findings that count.

    If a file cannot be read, the others are reported, nothing is fixed, and the command exits with 2.

    Example: twinfold check deployment.json --profile constrained --fail-on error
    """
    try:
        options = CheckOptions(
            PROFILES[profile.value],
            now_ms(),
            read_waivers(waivers) if waivers else (),
            read_baseline(baseline) if baseline else None,
            [_read(location) for location in merge_onto or []],
        )
        # All files are read before any is fixed: a run that cannot read one changes none.
        parsed_files, unreadable = _readable(files)
        applies_fixes = fix and not unreadable
        checked = [_checked(parsed, options, fix=applies_fixes) for parsed in parsed_files]
        if write_baseline_to and not unreadable:
            write_baseline(write_baseline_to, fingerprints(checked))
    except InputUnreadable as error:
        # Handled here, because `services.cli.exits` imports Redis, which a check in a build pipeline does not need.
        complain_of(error)
        raise typer.Exit(UNREADABLE) from error
    fixed_input = next(
        (result.source.text for result in checked if applies_fixes and result.source.location == STANDARD_INPUT), None
    )
    # The fixed manifest goes to standard output, so that `check --fix -` can be used in a pipe; the report then goes elsewhere.
    if fixed_input is not None:
        sys.stdout.buffer.write(fixed_input.encode())
    if checked or format_ != "text":
        _report(CheckResult(checked, unreadable), format_, fail_on, sys.stdout if fixed_input is None else sys.stderr)
    for unread in unreadable:
        complain_of(unread)
    if unreadable:
        if fix or write_baseline_to:
            complain("twinfold: no file and no baseline was written")
        raise typer.Exit(UNREADABLE)
    if not write_baseline_to and failing(checked, fail_on):
        raise typer.Exit(FOUND)


def _readable(locations: Sequence[str]) -> tuple[list[ParsedFile], list[InputUnreadable]]:
    """The files that can be read, and the errors of those that cannot."""
    readable, unreadable = list[ParsedFile](), list[InputUnreadable]()
    for location in locations:
        try:
            readable.append(_read(location))
        except InputUnreadable as error:
            unreadable.append(error)
    return readable, unreadable


def _read(location: str) -> ParsedFile:
    return _parsed(SourceFile(location, read_text(location)))


def _parsed(source: SourceFile) -> ParsedFile:
    return ParsedFile(source, document_of(source))


def _checked(parsed: ParsedFile, options: CheckOptions, *, fix: bool) -> CheckedFile:
    fixed: tuple[Finding, ...] = ()
    if fix:
        parsed, fixed = _fixed(parsed, options)
    report = readiness.check(options.subject(parsed), options.profile, now=options.now, waivers=options.waivers)
    sources = {file.document.name: file.source for file in (*options.bases, parsed)}
    return CheckedFile(parsed.source, sources, report, options.baseline, fixed)


def _fixed(parsed: ParsedFile, options: CheckOptions) -> tuple[ParsedFile, tuple[Finding, ...]]:
    """Fix a file and write it; returns it as it is then, and the findings that were fixed."""
    fixed: list[Finding] = []
    for _ in range(_PASSES_MAX):
        fixes = readiness.fixes(options.subject(parsed), options.profile, now=options.now, waivers=options.waivers)
        if not fixes:
            break
        text = edited(parsed.source.text, [step for _, steps in fixes for step in steps])
        parsed = _parsed(SourceFile(parsed.source.location, text))
        fixed += (finding for finding, _ in fixes)
    if fixed and parsed.source.location != STANDARD_INPUT:
        write_manifest(parsed.source)
    return parsed, tuple(fixed)


def _report(files: CheckResult, format_: Format, fail_on: Severity, stream: TextIO) -> None:
    if isinstance(stream, io.TextIOWrapper):
        # A manifest can have characters that the terminal's encoding lacks; without this, printing them would raise.
        stream.reconfigure(errors="backslashreplace")
    match format_:
        case "text":
            show(console(error=stream is sys.stderr, width=None), files)
        case "json":
            stream.write(visible_json(as_json(files)))
        case "sarif":
            stream.write(visible_json(as_sarif(files)))
        case "junit":
            stream.write(as_junit(files, fail_on))
