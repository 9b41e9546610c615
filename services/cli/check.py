"""`twinfold check`: manifests held against the production checklist, without a server."""

import enum
import io
import sys
import time
from collections.abc import Sequence
from typing import Annotated, TextIO

import typer
from rich.console import Console

from events.manifest.problem import Severity
from events.readiness import check as readiness
from events.readiness.finding import Finding
from events.readiness.profile import PROFILES
from events.readiness.subject import Subject
from events.readiness.waiver import Waiver
from services.cli.checking.as_json import as_json, as_sarif
from services.cli.checking.as_junit import as_junit
from services.cli.checking.as_text import show
from services.cli.checking.checked import Checked, Source, failing, fingerprints
from services.cli.checking.json_text import edited
from services.cli.checking.reading import (
    document_of,
    read_baseline,
    read_source,
    read_waivers,
    write_baseline,
    write_manifest,
)
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
    """Check manifests against the production checklist. It leaves with 1 if there are findings that count.

    Example: twinfold check deployment.json --profile constrained --fail-on error
    """
    now = int(time.time() * 1000)
    try:
        given = read_waivers(waivers) if waivers else ()
        known = read_baseline(baseline) if baseline else None
        bases = [read_source(place) for place in merge_onto or []]
        checked = [
            _checked(place, bases, profile.value, now=now, waivers=given, known=known, fix=fix) for place in files
        ]
        if write_baseline_to:
            write_baseline(write_baseline_to, fingerprints(checked))
    except InputUnreadable as error:
        # Here and not in services.cli.exits, which knows all that can go wrong with Redis.
        sys.stderr.write(f"twinfold: {error}\n")
        raise typer.Exit(UNREADABLE) from error
    mended = next((one.source.text for one in checked if fix and one.source.place == STANDARD_INPUT), None)
    if mended is not None:
        sys.stdout.buffer.write(mended.encode())
    _report(checked, format_, fail_on, sys.stdout if mended is None else sys.stderr)
    if not write_baseline_to and failing(checked, fail_on):
        raise typer.Exit(FOUND)


def _checked(
    place: str,
    bases: Sequence[Source],
    profile_name: str,
    *,
    now: int,
    waivers: Sequence[Waiver],
    known: frozenset[str] | None,
    fix: bool,
) -> Checked:
    profile = PROFILES[profile_name]
    source = read_source(place)
    below = [document_of(base) for base in bases]
    document = document_of(source)
    fixed: list[Finding] = []
    for _ in range(_PASSES_MAX if fix else 0):
        found = readiness.fixes(Subject((*below, document)), profile, now=now, waivers=waivers)
        if not found:
            break
        text = edited(source.text, [operation for _, operations in found for operation in operations])
        source = Source(place, text)
        document = document_of(source)
        fixed += (finding for finding, _ in found)
    if fixed and place != STANDARD_INPUT:
        write_manifest(source)
    report = readiness.check(Subject((*below, document)), profile, now=now, waivers=waivers)
    sources = {one.name: base for one, base in zip(below, bases, strict=True)} | {document.name: source}
    return Checked(source, sources, report, known, tuple(fixed))


def _report(files: Sequence[Checked], format_: Format, fail_on: Severity, stream: TextIO) -> None:
    if isinstance(stream, io.TextIOWrapper):
        # Names in a manifest can have characters that a terminal has not.
        stream.reconfigure(errors="backslashreplace")
    match format_:
        case Format.text:
            show(Console(file=stream, highlight=False, markup=False, emoji=False), files)
        case Format.json:
            stream.write(as_json(files))
        case Format.sarif:
            stream.write(as_sarif(files))
        case Format.junit:
            stream.write(as_junit(files, fail_on))
