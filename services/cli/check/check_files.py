"""The files that `twinfold check` reads and writes: manifests, waivers, baselines."""

import codecs
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from events.canonical import Json
from events.readiness.catalogue import BY_ID
from events.readiness.finding import Finding
from events.readiness.subject import Document, read_document
from events.readiness.waiver import Waiver
from services.cli.check.check_result import SourceFile
from services.cli.check.json_text import doubled
from services.cli.inputs import STANDARD_INPUT, InputUnreadable, read_text

_TEMPLATE = ".template."


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


def document_of(source: SourceFile) -> Document:
    """The document in a manifest's text. Its name is its id, or the file as the user typed it.

    Raises:
        InputUnreadable: it is not JSON.
    """
    try:
        raw: Json = json.loads(source.text, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise InputUnreadable(source.location, str(error)) from error
    name = "-" if source.location == STANDARD_INPUT else str(PurePosixPath(Path(source.location).as_posix()))
    template = _TEMPLATE in Path(source.location).name
    return read_document(raw, name=name, template=template, doubled=doubled(source.text))


def write_manifest(source: SourceFile) -> None:
    """Write a text to its file, and keep the byte order mark that the file has.

    Raises:
        InputUnreadable: the file cannot be written.
    """
    path = Path(source.location)
    try:
        # Without its mark the first line of the file would show as changed in a code review.
        mark = codecs.BOM_UTF8 if path.read_bytes().startswith(codecs.BOM_UTF8) else b""
        path.write_bytes(mark + source.text.encode())
    except OSError as error:
        raise InputUnreadable(source.location, str(error)) from error


def read_waivers(location: str) -> tuple[Waiver, ...]:
    """The waivers in a TOML file, or in a JSON file if its name ends with `.json`.

    Raises:
        InputUnreadable: it cannot be parsed, lacks a member, or names an unknown rule.
    """
    text = read_text(location)
    try:
        decode = msgspec.json.decode if location.endswith(".json") else msgspec.toml.decode
        waivers = decode(text.encode(), type=WaiverFile).waivers
    except (ValueError, msgspec.DecodeError) as error:
        raise InputUnreadable(location, str(error)) from error
    for waiver in waivers:
        if waiver.rule not in BY_ID:
            raise InputUnreadable(
                location, f"unknown rule {waiver.rule!r}; docs/reference/readiness.md lists all rules"
            )
    return waivers


def read_baseline(location: str) -> frozenset[str]:
    """The fingerprints in a baseline.

    Raises:
        InputUnreadable: the file is not a baseline.
    """
    try:
        baseline = msgspec.json.decode(read_text(location).encode(), type=Baseline)
    except (ValueError, msgspec.DecodeError) as error:
        raise InputUnreadable(location, str(error)) from error
    return frozenset(finding.fingerprint for finding in baseline.findings)


def write_baseline(location: str, findings: Sequence[Finding]) -> None:
    """Write a baseline of findings, one member a line, so that a code review shows which findings were added.

    Raises:
        InputUnreadable: the file cannot be written.
    """
    entries = tuple(
        BaselineFinding(finding.fingerprint, finding.rule, finding.document, finding.module) for finding in findings
    )
    text = msgspec.json.format(msgspec.json.encode(Baseline(1, entries)), indent=2)
    try:
        Path(location).write_bytes(text + b"\n")
    except OSError as error:
        raise InputUnreadable(location, str(error)) from error


def _refused(constant: str) -> Json:
    raise ValueError(f"{constant} is not JSON")
