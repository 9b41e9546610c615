"""Fixes mend what they say, leave the rest, and need to be done once."""

from typing import Any

import pytest

from events.readiness.catalogue import RULES
from events.readiness.check import fixes
from events.readiness.pointer import Operation, names_of, overlap, pointer
from events.readiness.subject import ReadinessSubject, read_document
from tests.readiness.examples import EXAMPLES, LONG
from tests.readiness.manifests import (
    ABSENT,
    EVERYTHING,
    LIMITS,
    NOW,
    create_options,
    found,
    host_config,
    layer,
    manifest,
    subject,
    temp,
)
from tests.readiness.patching import patched, value_at

FIXING = [rule.id for rule in RULES if rule.fixes]

# Examples with a fix, where the rule's own example has none.
WITH_FIX = {
    "hub-optimize": manifest(("agent/systemModules/edgeHub/env/OptimizeForPerformance", ABSENT)),
    "log-config": create_options({"Hostname": "t", "HostConfig": {"Memory": 7}}),
}


def example(rule: str) -> Any:
    return WITH_FIX.get(rule) or EXAMPLES[rule][0].last.content


def mended(document: Any) -> Any:
    """The document once there is nothing left to fix."""
    for _ in range(10):
        found_fixes = fixes(subject(document), EVERYTHING, now=NOW)
        if not found_fixes:
            return document
        document = patched(document, [step for _, steps in found_fixes for step in steps])
    raise AssertionError("it is mended again and again")


@pytest.mark.parametrize("rule", FIXING)
def test_what_is_fixed_passes_its_rule_and_stays_as_it_is(rule: str) -> None:
    document = example(rule)
    assert any(finding.fixable for finding in found(subject(document), rule))
    after = mended(document)
    assert found(subject(after), rule) == []
    assert mended(after) == after


@pytest.mark.parametrize("rule", FIXING)
def test_a_fix_changes_the_element_it_names_and_nothing_else(rule: str) -> None:
    document = example(rule)
    steps = [
        step for finding, fix in fixes(subject(document), EVERYTHING, now=NOW) if finding.rule == rule for step in fix
    ]
    assert steps
    after = patched(document, steps)
    undone = [
        Operation("add" if step.op == "remove" else "replace", step.path, value_at(document, step.path))
        if step.op != "add"
        else Operation("remove", step.path)
        for step in reversed(steps)
    ]
    assert patched(after, undone) == document != after


def test_only_rules_that_say_so_have_fixes() -> None:
    fixing = {finding.rule for asked, _ in EXAMPLES.values() for finding, _ in fixes(asked, EVERYTHING, now=NOW)}
    assert fixing <= set(FIXING)


def test_the_protocol_of_the_one_is_given_to_the_other() -> None:
    after = mended(manifest(("agent/systemModules/edgeAgent/env", ABSENT)))
    env = after["modulesContent"]["$edgeAgent"]["properties.desired"]["systemModules"]["edgeAgent"]["env"]
    assert env == {"UpstreamProtocol": {"value": "AmqpWs"}}


def test_a_template_keeps_its_objects() -> None:
    template = {"$schema-template": "1", **temp("settings/createOptions", {"HostConfig": {"Memory": 7}})}
    options = value_at(
        mended(template), "/modulesContent/$edgeAgent/properties.desired/modules/temp/settings/createOptions"
    )
    assert options["HostConfig"]["LogConfig"]["Type"] == "local"


def test_an_object_becomes_text_in_chunks() -> None:
    document = temp("settings/createOptions", {"Labels": {"note": "x" * 600}, "HostConfig": LIMITS})
    settings = value_at(mended(document), "/modulesContent/$edgeAgent/properties.desired/modules/temp/settings")
    assert (len(settings["createOptions"]), 0 < len(settings["createOptions01"]) <= 512) == (512, True)


def test_chunks_that_are_no_longer_needed_are_removed() -> None:
    restart = host_config(RestartPolicy={"Name": "always", "Note": "x" * 600})
    settings = value_at(mended(restart), "/modulesContent/$edgeAgent/properties.desired/modules/temp/settings")
    assert set(settings) == {"image", "createOptions"}


def test_a_base_is_never_changed_for_its_layer() -> None:
    over = layer({"modules.temp.env.A": {"value": "b"}})
    assert fixes(subject(example("log-config"), over), EVERYTHING, now=NOW) == ()


def test_a_path_that_leads_to_the_text_itself_has_no_context_for_chunks() -> None:
    over = layer({"modules.temp.settings.createOptions": LONG})
    assert [fix for finding, fix in fixes(subject(over), EVERYTHING, now=NOW)] == []


@pytest.mark.parametrize("names", [(), ("a",), ("a/b", "~", "~1", "", "0")])
def test_pointers_and_names_are_inverse(names: tuple[str, ...]) -> None:
    assert tuple(names_of(pointer(*names))) == names


def test_a_patch_that_leads_nowhere_is_refused_and_changes_nothing() -> None:
    document = {"a": [1]}
    for step in (
        Operation("remove", "/b"),
        Operation("replace", "/b", 1),
        Operation("add", "/b/c", 1),
        Operation("add", "/a/0", 1),
    ):
        with pytest.raises(LookupError):
            patched(document, [step])
    assert document == {"a": [1]}


def test_patches_overlap_where_one_is_inside_the_other() -> None:
    assert overlap([Operation("add", "/a/b")], [Operation("remove", "/a")])
    assert not overlap([Operation("add", "/a/b")], [Operation("remove", "/a/bc")])


def test_a_fix_is_for_the_last_document_alone() -> None:
    asked = ReadinessSubject(
        (read_document(example("log-config"), name="a"), read_document(example("startup-order-agent"), name="b"))
    )
    assert {finding.document for finding, _ in fixes(asked, EVERYTHING, now=NOW)} == {"b"}
