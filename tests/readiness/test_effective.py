"""What the rules find in an effective configuration, as it is kept, and who wrote what of it."""

import json

import pytest

from events.canonical import digest
from events.readiness.catalogue import BY_ID, VERSION
from events.readiness.effective import RuleFindings, findings_of, read_findings, written_in
from events.readiness.rule import Inspects
from tests.readiness.examples import EXAMPLES
from tests.readiness.manifests import READY, layer, manifest, module, subject

FOUND_BY_VERSION = (2, "47c1f6f2af864aa3")
"""What rules of a version find in the examples."""


def test_a_change_of_what_the_rules_find_comes_with_another_version() -> None:
    modules_by_rule = {rule: RuleFindings.of(stopped.sections).modules for rule, (stopped, _) in EXAMPLES.items()}
    assert (VERSION, digest(modules_by_rule)[:16]) == FOUND_BY_VERSION, (
        "raise events.readiness.catalogue.VERSION, and note it here"
    )


def test_rules_on_hosts_and_rules_by_hand_are_not_kept() -> None:
    for stopped, _ in EXAMPLES.values():
        rules = (BY_ID[rule] for rule in RuleFindings.of(stopped.sections).modules)
        assert {Inspects.HOST, Inspects.NOTHING}.isdisjoint(rule.inspects for rule in rules)


def test_what_is_kept_is_what_a_check_of_the_whole_finds() -> None:
    # The examples have most of their modules in common, and in each of them another element is wrong.
    for example in (document for pair in EXAMPLES.values() for document in pair):
        pairs = {(finding.rule, finding.module) for finding in findings_of(example.sections)}
        stored = RuleFindings.of(example.sections).modules
        assert {(rule, name) for rule, names in stored.items() for name in names} == pairs


def test_what_is_kept_names_rules_and_modules_and_no_value() -> None:
    document = manifest(("agent/modules/temp/env/DB_PASSWORD/value", "hunter2-hunter2"), ("agent/modules/temp/x", 1))
    sections = subject(document).sections
    assert "hunter2" not in RuleFindings.of(sections).to_bytes().decode()
    assert "hunter2" not in str(findings_of(sections))


def test_what_another_version_found_counts_as_nothing() -> None:
    findings = RuleFindings.of(subject(READY).sections)
    assert read_findings(findings.to_bytes()) == findings
    assert read_findings(None) is None
    assert read_findings(json.dumps([VERSION + 1, findings.modules]).encode()) is None


@pytest.mark.parametrize(
    ("pointer", "who"),
    [
        ("/modulesContent/$edgeAgent/properties.desired/modules/temp", "base"),
        ("/modulesContent/$edgeAgent/properties.desired/modules/extra/settings/image", "top"),
        ("/modulesContent/$edgeAgent/properties.desired/modules/alarm/status", "top"),
        ("/modulesContent/$edgeAgent/properties.desired/modules/alarm/settings", "base"),
        ("/modulesContent", "top"),
        ("", "top"),
    ],
)
def test_an_element_was_written_by_the_last_deployment_that_sets_it(pointer: str, who: str) -> None:
    top = layer({"modules.extra": module("extra"), "modules.alarm.status": "stopped"})
    assert written_in(subject({"id": "base", "content": READY}, {"id": "top", "content": top}), pointer) == who
