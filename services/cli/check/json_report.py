"""Reports for programs: JSON, and SARIF 2.1.0 for tools that show findings beside code."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import msgspec

from events.canonical import JsonObject
from events.manifest.problem import Severity
from events.readiness.catalogue import RULES
from events.readiness.finding import Finding
from events.readiness.rule import Rule
from services.cli.check.check_result import CheckedFile, CheckResult
from services.cli.inputs import STANDARD_INPUT, InputUnreadable

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"

_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_RULE_INDEXES = {rule.id: number for number, rule in enumerate(RULES)}


def as_json(files: CheckResult) -> str:
    """The files with their findings and lines, and the files that cannot be read, as JSON."""
    unreadable = [{"file": error.location, "message": error.why} for error in files.unreadable]
    return _text({"version": 1, "files": [_file(checked) for checked in files.checked], "unreadable": unreadable})


def as_sarif(all_files: CheckResult) -> str:
    """One SARIF run. Waived findings are suppressed, findings of the baseline are `unchanged`."""
    from importlib.metadata import version  # noqa: PLC0415 - slow, and used here alone

    files = all_files.checked
    results = [_result(checked, finding) for checked in files for finding in checked.report.findings]
    for checked in files:
        for waived in checked.report.waived:
            suppression = {"kind": "external", "status": "accepted", "justification": str(waived.waiver)}
            results.append({**_result(checked, waived.finding), "suppressions": [suppression]})
    driver = {"name": "twinfold", "version": version("twinfold"), "rules": [_sarif_rule(rule) for rule in RULES]}
    expired = {waiver for checked in files for waiver in checked.report.expired}
    run = {
        "tool": {"driver": driver},
        # `line_of` counts characters of Python, which are code points.
        "columnKind": "unicodeCodePoints",
        "invocations": [_invocation(all_files.unreadable)],
        "results": results,
        "properties": {"expiredWaivers": msgspec.to_builtins(sorted(expired, key=str))},
    }
    return _text({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]})


def _invocation(unreadable: Sequence[InputUnreadable]) -> JsonObject:
    notifications = [
        {
            "level": "error",
            "message": {"text": error.why},
            "locations": [{"physicalLocation": {"artifactLocation": {"uri": _uri(error.location)}}}],
        }
        for error in unreadable
    ]
    return {"executionSuccessful": not unreadable, "toolExecutionNotifications": notifications}


def _file(checked: CheckedFile) -> JsonObject:
    report = checked.report
    return {
        "file": checked.source.location,
        "profile": report.profile,
        "findings": [
            {**_finding(checked, finding), "known": checked.knows(finding)}
            for finding in sorted(report.findings, key=checked.knows)
        ],
        "waived": [
            {"finding": _finding(checked, waived.finding), "waiver": msgspec.to_builtins(waived.waiver)}
            for waived in report.waived
        ],
        "expired": msgspec.to_builtins(report.expired),
        "fixed": [msgspec.to_builtins(finding) for finding in checked.fixed],
        "unknownLabels": report.unknown_labels,
    }


def _finding(checked: CheckedFile, finding: Finding) -> JsonObject:
    line = checked.line(finding)
    location = {"line": line.line, "column": line.column} if line is not None else {}
    return {**msgspec.to_builtins(finding), "file": checked.source_of(finding).location, **location}


def _result(checked: CheckedFile, finding: Finding) -> JsonObject:
    line = checked.line(finding)
    physical: JsonObject = {"artifactLocation": {"uri": _uri(checked.source_of(finding).location)}}
    if line is not None:
        physical["region"] = {"startLine": line.line, "startColumn": line.column}
    location: JsonObject = {"physicalLocation": physical}
    location["logicalLocations"] = [{"name": finding.module or finding.document, "fullyQualifiedName": finding.pointer}]
    state = {} if checked.baseline is None else {"baselineState": "unchanged" if checked.knows(finding) else "new"}
    return {
        "ruleId": finding.rule,
        "ruleIndex": _RULE_INDEXES[finding.rule],
        "level": _LEVELS[finding.severity],
        "message": {"text": finding.message},
        "locations": [location],
        "partialFingerprints": {"twinfold/v1": finding.fingerprint},
        **state,
    }


def _sarif_rule(rule: Rule) -> JsonObject:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.reason},
        "help": {"text": rule.remedy},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {"source": rule.source},
    }


def _uri(location: str) -> str:
    if location == STANDARD_INPUT:
        return "stdin"
    path = Path(location)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())


def _text(value: JsonObject) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"
