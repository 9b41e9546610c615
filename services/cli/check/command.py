"""`twinfold check`: checks manifests against the production checklist, without a server."""

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
from events.readiness.subject import ReadinessSubject
from events.readiness.waiver import Waiver
from events.rich_console import console
from events.terminal import complain, complain_of, visible_json
from services.cli.check.check_files import (
    CheckedFile,
    SourceFile,
    read_baseline,
    read_waivers,
    source_of,
    write_baseline,
    write_manifest,
)
from services.cli.check.json_text import edited
from services.cli.check.reports import CheckResult, as_json, as_junit, as_sarif, counts, show
from services.cli.commands import argument, command, flag
from services.cli.inputs import STANDARD_INPUT, InputUnreadable, read_text

FOUND = 1
UNREADABLE = 2

# A pass applies the fixes that do not touch the same element. The limit ends the run of two rules
# that undo each other's fixes.
_PASSES_MAX = 20


ProfileName = Literal["production", "development", "constrained"]
Format = Literal["text", "json", "sarif", "junit"]


class CheckOptions(msgspec.Struct, frozen=True):
    """What all files are checked by; `now` is in milliseconds, `baseline` has fingerprints."""

    profile: Profile
    now: int
    waivers: tuple[Waiver, ...]
    baseline: frozenset[str] | None
    bases: Sequence[SourceFile]


@command(example="check deployment.json --profile constrained --fail-on error")
def check(
    files: Annotated[list[str], argument("Manifests or templates; - is standard input.")],
    *,
    profile: Annotated[ProfileName, flag("Which rules apply.")] = "production",
    merge_onto: Annotated[
        list[str] | None, flag("Merge each file onto this manifest; can be repeated for layers, in their order.")
    ] = None,
    fix: Annotated[bool, flag("Fix what can be fixed safely, in the files.", "--fix")] = False,
    format_: Annotated[Format, flag("Format of the report.", "--format")] = "text",
    baseline: Annotated[str | None, flag("A file of known findings, which do not count.")] = None,
    write_baseline_to: Annotated[
        str | None, flag("Write the findings of this run to a file, as a baseline.", "--write-baseline")
    ] = None,
    fail_on: Annotated[Severity, flag("Lowest severity that counts.")] = Severity.WARNING,
    waivers: Annotated[str | None, flag("A file of waivers, in TOML or JSON.")] = None,
) -> None:
    """Check manifests against the production checklist. Exits with 1 if there are findings that count.

    If a file cannot be read, the others are reported, nothing is fixed, and the command exits with 2.
    """
    try:
        options = CheckOptions(
            PROFILES[profile],
            now_ms(),
            read_waivers(waivers) if waivers else (),
            read_baseline(baseline) if baseline else None,
            [source_of(location, read_text(location)) for location in merge_onto or []],
        )
        # All files are read before any is fixed: a run that cannot read one changes none.
        sources, unreadable = list[SourceFile](), list[InputUnreadable]()
        for location in files:
            try:
                sources.append(source_of(location, read_text(location)))
            except InputUnreadable as error:
                unreadable.append(error)
        applies_fixes = fix and not unreadable
        checked = [_checked(source, options, fix=applies_fixes) for source in sources]
        if write_baseline_to and not unreadable:
            write_baseline(write_baseline_to, checked)
    except InputUnreadable as error:
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
    if not write_baseline_to and any(counts(finding, fail_on) for result in checked for finding in result.new):
        raise typer.Exit(FOUND)


def _checked(source: SourceFile, options: CheckOptions, *, fix: bool) -> CheckedFile:
    """Check a file as a layer over the bases; with `fix` it is fixed and written before."""

    def subject() -> ReadinessSubject:
        return ReadinessSubject(tuple(file.document for file in (*options.bases, source)))

    fixed: list[Finding] = []
    for _ in range(_PASSES_MAX if fix else 0):
        fixes = readiness.fixes(subject(), options.profile, now=options.now, waivers=options.waivers)
        if not fixes:
            break
        text = edited(source.text, [step for _, steps in fixes for step in steps])
        source = source_of(source.location, text)
        fixed += (finding for finding, _ in fixes)
    if fixed and source.location != STANDARD_INPUT:
        write_manifest(source)
    report = readiness.check(subject(), options.profile, now=options.now, waivers=options.waivers)
    sources = {file.document.name: file for file in (*options.bases, source)}
    return CheckedFile(source, sources, report, options.baseline, tuple(fixed))


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
