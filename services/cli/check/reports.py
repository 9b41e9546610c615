"""The reports of a check: for people, as JSON, as SARIF 2.1.0 for tools that show findings beside code, and as JUnit XML."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree as ET

import msgspec
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from events.canonical import JsonObject
from events.manifest.problem import Severity
from events.number_text import counted
from events.readiness.catalogue import BY_ID, RULES
from events.readiness.check import RANK
from events.readiness.finding import Finding
from events.readiness.rule import Inspects, Rule
from events.terminal import visible
from services.cli.check.check_files import CheckedFile
from services.cli.inputs import STANDARD_INPUT, InputUnreadable

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}
_COLUMN = max(len(severity.value) for severity in Severity) + 2
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_RULE_INDEXES = {rule.id: number for number, rule in enumerate(RULES)}
_NO_CASE = (Inspects.HOST, Inspects.NOTHING)
# XML 1.0 has no escape for these characters; one of them would make the whole report unreadable.
_no_xml = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class CheckResult(msgspec.Struct, frozen=True):
    """The files that were checked, and the errors of those that could not be read."""

    checked: Sequence[CheckedFile]
    unreadable: Sequence[InputUnreadable] = ()


def counts(finding: Finding, fail_on: Severity) -> bool:
    """Whether a finding is at least as severe as `fail_on`."""
    return RANK[finding.severity] <= RANK[fail_on]


def show(console: Console, files: CheckResult) -> None:
    """Print the findings of every file, most severe first, and a summary line."""
    for checked in files.checked:
        _line(console, 0, Text.assemble((checked.source.location, "bold"), f" ({checked.report.profile})"))
        for finding in checked.fixed:
            _labelled(console, "fixed", "green", f"{finding.rule}: {finding.message}")
        for rule_id, findings in groupby(checked.new, key=lambda finding: finding.rule):
            _show_rule(console, checked, rule_id, list(findings))
        for waived in checked.report.waived:
            _labelled(console, "waived", "dim", f"{waived.finding.message} ({waived.waiver})")
        for waiver in checked.report.expired:
            _labelled(console, "expired", "magenta", f"the waiver of {waiver}")
        for label in checked.report.unknown_labels:
            _labelled(console, "label", "", f"{label} names no rule, profile or severity")
        if not checked.new:
            _line(console, 0, Text("no new findings", "green"))
        console.print()
    _line(console, 0, Text(_summary(files), "bold"))


def _labelled(console: Console, label: str, style: str, text: str) -> None:
    _line(console, 0, Text.assemble((f"{label:<{_COLUMN}}", style), text))


def _show_rule(console: Console, checked: CheckedFile, rule_id: str, findings: Sequence[Finding]) -> None:
    rule = BY_ID[rule_id]
    severity = findings[0].severity
    head = Text.assemble((f"{severity.value:<{_COLUMN}}", _STYLES[severity]), (rule_id, "bold"), f"  {rule.title}")
    _line(console, 0, head)
    for finding in findings:
        position, source = checked.line(finding), checked.source_of(finding)
        line = "" if position is None else f"line {position.line}"
        if source is not checked.source:
            line = source.location if position is None else f"{source.location}:{position.line}"
        fixable = " [can be fixed]" if finding.fixable else ""
        _line(console, _COLUMN, Text.assemble(finding.message, (fixable, "green"), (f"  {line}", "dim")))
    _line(console, _COLUMN, Text(f"Remedy: {rule.remedy}", "italic"))


def _line(console: Console, indent: int, text: Text) -> None:
    # Output in a pipe is searched line by line, so a line is not wrapped there.
    if console.is_terminal:
        console.print(Padding(text, (0, 0, 0, indent), expand=False))
    else:
        console.file.write(f"{' ' * indent}{visible(text.plain)}\n")


def _summary(result: CheckResult) -> str:
    """One line: how many new findings of each severity there are, and how many are known, waived or fixed."""
    files = result.checked
    new = Counter(finding.severity for checked in files for finding in checked.new)
    severities = ", ".join(counted(new[severity], severity.value) for severity in RANK if new[severity])
    counts = (
        (sum(len(checked.report.findings) - len(checked.new) for checked in files), "known from the baseline"),
        (sum(len(checked.report.waived) for checked in files), "waived"),
        (sum(len(checked.fixed) for checked in files), "fixed"),
    )
    parts = [f"{counted(len(files), 'file')}: {severities or 'no findings'}"]
    parts += (f"{count} {text}" for count, text in counts if count)
    if result.unreadable:
        parts.append(f"{counted(len(result.unreadable), 'file')} cannot be read")
    if fixable := sum(finding.fixable for checked in files for finding in checked.report.findings):
        parts.append(f"{fixable} can be fixed with --fix")
    return "; ".join(parts)


def as_json(files: CheckResult) -> str:
    """The files with their findings and lines, and the files that cannot be read, as JSON."""
    unreadable = [{"file": error.location, "message": error.why} for error in files.unreadable]
    return _text({"version": 1, "files": [_file(checked) for checked in files.checked], "unreadable": unreadable})


def as_sarif(all_files: CheckResult) -> str:
    """One SARIF run. Waived findings are suppressed, findings of the baseline are `unchanged`."""
    from importlib.metadata import version

    files = all_files.checked
    results = [_result(checked, finding) for checked in files for finding in checked.report.findings]
    for checked in files:
        for waived in checked.report.waived:
            suppression = {"kind": "external", "status": "accepted", "justification": str(waived.waiver)}
            results.append({**_result(checked, waived.finding), "suppressions": [suppression]})
    driver = {"name": "twinfold", "version": version("twinfold"), "rules": [_sarif_rule(rule) for rule in RULES]}
    expired = {waiver for checked in files for waiver in checked.report.expired}
    notifications = [
        {
            "level": "error",
            "message": {"text": error.why},
            "locations": [{"physicalLocation": {"artifactLocation": {"uri": _uri(error.location)}}}],
        }
        for error in all_files.unreadable
    ]
    run = {
        "tool": {"driver": driver},
        # `line_of` counts characters of Python, which are code points.
        "columnKind": "unicodeCodePoints",
        "invocations": [{"executionSuccessful": not all_files.unreadable, "toolExecutionNotifications": notifications}],
        "results": results,
        "properties": {"expiredWaivers": msgspec.to_builtins(sorted(expired, key=str))},
    }
    return _text({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]})


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


def as_junit(files: CheckResult, fail_on: Severity) -> str:
    """The report as JUnit XML.

    A case fails if findings of its rule count, and is skipped if all of them are waived or in the baseline. A file that cannot
    be read is a suite of one case with an error.
    """
    suites = ET.Element("testsuites", name="twinfold check")
    for checked in files.checked:
        _suite(suites, checked, fail_on)
    for unread in files.unreadable:
        location = _clean(unread.location)
        counts_of_one = {"tests": "1", "failures": "0", "errors": "1", "skipped": "0"}
        suite = ET.SubElement(suites, "testsuite", {"name": location, **counts_of_one})
        case = ET.SubElement(suite, "testcase", classname=location, name="readable")
        ET.SubElement(case, "error", message=_clean(unread.why))
    for name in ("tests", "failures", "errors", "skipped"):
        suites.set(name, str(sum(int(suite.get(name, "0")) for suite in suites)))
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=False) + "\n"


def _suite(suites: ET.Element, checked: CheckedFile, fail_on: Severity) -> None:
    suite = ET.SubElement(suites, "testsuite", name=_clean(checked.source.location))
    if checked.report.expired:
        properties = ET.SubElement(suite, "properties")
        for waiver in checked.report.expired:
            ET.SubElement(properties, "property", name="expired waiver", value=_clean(str(waiver)))
    for rule in RULES:
        if rule.inspects in _NO_CASE:
            continue
        case = ET.SubElement(suite, "testcase", classname=_clean(checked.source.location), name=rule.id)
        new = [finding for finding in checked.new if finding.rule == rule.id]
        failing = [finding for finding in new if counts(finding, fail_on)]
        let = [waived.finding for waived in checked.report.waived if waived.finding.rule == rule.id]
        let += [finding for finding in checked.report.findings if finding.rule == rule.id and checked.knows(finding)]
        if failing:
            failure = ET.SubElement(case, "failure", type=failing[0].severity.value, message=rule.title)
            lines = [f"{finding.pointer}: {finding.message}" for finding in failing]
            failure.text = "\n".join(map(_clean, [*lines, rule.remedy]))
        elif let and not new:
            ET.SubElement(case, "skipped", message=_clean("; ".join(finding.message for finding in let)))
        elif new:
            ET.SubElement(case, "system-out").text = "\n".join(_clean(finding.message) for finding in new)
    for name, path in (("tests", "testcase"), ("failures", "testcase/failure"), ("skipped", "testcase/skipped")):
        suite.set(name, str(len(suite.findall(path))))


def _clean(text: str) -> str:
    return _no_xml.sub("\ufffd", visible(text))
