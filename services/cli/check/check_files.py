"""What `twinfold check` reads and writes: manifests, waivers, baselines."""

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
    """A finding in a baseline; what stands beside the fingerprint is for people."""

    fingerprint: str
    rule: str
    document: str
    module: str


class Baseline(msgspec.Struct, frozen=True):
    """The file of `--baseline`."""

    version: Literal[1]
    findings: tuple[BaselineFinding, ...]


def read_source(location: str) -> SourceFile:
    """A file's text, or that of standard input for `-`.

    Raises:
        InputUnreadable: there is none.
    """
    return SourceFile(location, read_text(location))


def document_of(source: SourceFile) -> Document:
    """The document of a manifest's text; its name is its id, or its file as it was given.

    Raises:
        InputUnreadable: it is no JSON.
    """
    try:
        raw: Json = json.loads(source.text, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise InputUnreadable(source.location, str(error)) from error
    name = "-" if source.location == STANDARD_INPUT else str(PurePosixPath(Path(source.location).as_posix()))
    template = _TEMPLATE in Path(source.location).name
    return read_document(raw, name=name, template=template, doubled=doubled(source.text))


def write_manifest(source: SourceFile) -> None:
    """Put a text into its file, with the byte order mark that is there.

    Raises:
        InputUnreadable: the file cannot be written.
    """
    path = Path(source.location)
    try:
        mark = codecs.BOM_UTF8 if path.read_bytes().startswith(codecs.BOM_UTF8) else b""
        path.write_bytes(mark + source.text.encode())
    except OSError as error:
        raise InputUnreadable(source.location, str(error)) from error


def read_waivers(location: str) -> tuple[Waiver, ...]:
    """The waivers of a TOML file, or a JSON one if it is called so.

    Raises:
        InputUnreadable: it is neither, lacks a member, or names a rule that does not exist.
    """
    text = read_text(location)
    try:
        decode = msgspec.json.decode if location.endswith(".json") else msgspec.toml.decode
        waivers = decode(text.encode(), type=WaiverFile).waivers
    except (ValueError, msgspec.DecodeError) as error:
        raise InputUnreadable(location, str(error)) from error
    for waiver in waivers:
        if waiver.rule not in BY_ID:
            raise InputUnreadable(location, f"there is no rule {waiver.rule!r}")
    return waivers


def read_baseline(location: str) -> frozenset[str]:
    """The fingerprints of a baseline.

    Raises:
        InputUnreadable: the file is none.
    """
    try:
        baseline = msgspec.json.decode(read_text(location).encode(), type=Baseline)
    except (ValueError, msgspec.DecodeError) as error:
        raise InputUnreadable(location, str(error)) from error
    return frozenset(finding.fingerprint for finding in baseline.findings)


def write_baseline(location: str, findings: Sequence[Finding]) -> None:
    """Write a baseline of findings, an entry a line, so that a review shows what became known.

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
    raise ValueError(f"{constant} is no JSON")
