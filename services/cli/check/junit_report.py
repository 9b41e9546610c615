"""A JUnit report for tools that show tests: a suite for each file, a case for each rule."""

import re
from xml.etree import ElementTree as ET

from events.manifest.problem import Severity
from events.readiness.catalogue import RULES
from events.readiness.rule import Inspects
from events.terminal import visible
from services.cli.check.check_result import CheckedFile, CheckResult, counts

_NO_CASE = (Inspects.HOST, Inspects.NOTHING)
# XML 1.0 has no escape for these characters; one of them would make the whole report unreadable.
_no_xml = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


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
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    suite.set("skipped", str(sum(case.find("skipped") is not None for case in cases)))


def _clean(text: str) -> str:
    return _no_xml.sub("\ufffd", visible(text))
