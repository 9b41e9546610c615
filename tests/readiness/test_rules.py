"""Every rule stops at what it is for, and lets its neighbour pass."""

from typing import Any

import pytest

from events.readiness.catalogue import RULES
from events.readiness.rule import Inspects, Rule
from tests.readiness.examples import EXAMPLES
from tests.readiness.manifests import (
    READY,
    checked,
    create_options,
    found,
    host_config,
    hub_env,
    image,
    manifest,
    module,
    subject,
    temp,
)
from tests.readiness.patching import value_at

BY_PROGRAM = [rule.id for rule in RULES if rule.inspects is not Inspects.NOTHING]


def test_no_rule_is_without_an_example() -> None:
    assert sorted(EXAMPLES) == sorted(BY_PROGRAM)


def test_rules_have_names_of_their_own() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)


def test_a_manifest_that_is_ready_has_no_findings() -> None:
    assert checked(subject(READY)).findings == ()


@pytest.mark.parametrize("rule", BY_PROGRAM)
def test_a_rule_stops_at_its_example_and_lets_the_near_miss_pass(rule: str) -> None:
    stopped, passed = EXAMPLES[rule]
    assert found(stopped, rule) != []
    assert found(passed, rule) == []


@pytest.mark.parametrize("rule", BY_PROGRAM)
def test_a_finding_leads_to_an_element_that_is_there(rule: str) -> None:
    stopped, _ = EXAMPLES[rule]
    wrapped = {"content": stopped.last.content}
    for finding in found(stopped, rule):
        value_at(wrapped if finding.pointer.startswith("/content/") else wrapped["content"], finding.pointer)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_says_why_what_to_do_and_where_it_comes_from(rule: Rule) -> None:
    assert rule.reason.endswith(".")
    assert rule.remedy.endswith(".")
    assert not rule.title.endswith(".")
    assert rule.source


SHADOW = ("agent/modules/temp/settings/createOptions", '{"Env": ["A=b"]}')

# What else a rule stops at, beside its example.
MORE = [
    ("image-empty", temp("settings", {})),
    ("image-format", image("registry.example.com/Temp:1.0.0")),
    ("image-placeholder", image("<registry>/temp:1.0.0")),
    ("image-debug", image("registry.example.com/temp:debug-1")),
    ("create-options-type", host_config(PortBindings={"80/tcp": [{"HostPort": 80}]})),
    ("create-options-type", host_config(PortBindings={"80/tcp": {"HostPort": "80"}})),
    ("create-options-type", host_config(Memory="64m")),
    ("create-options-type", host_config(Privileged="true")),
    ("create-options-value", host_config(PortBindings={"80/tcp": [{"HostPort": "99999"}]})),
    ("create-options-value", host_config(Binds=["./data:/data"])),
    ("create-options-chunks", temp("settings", {"image": "x:1.0.0", "createOptions01": "{}"})),
    ("debug-ports", create_options({"Cmd": ["node", "--inspect=0.0.0.0:1", "app.js"]})),
    ("debug-ports", host_config(PortBindings={"9229/tcp": []})),
    ("docker-sock", host_config(Mounts=[{"Type": "bind", "Source": "/run/docker.sock", "Target": "/s"}])),
    ("env-shadow", manifest(SHADOW, ("agent/modules/temp/env/A/value", "c"))),
    ("log-config", create_options("")),
    ("route-unknown-module", manifest(("hub/routes/x", 'FROM /* INTO BrokeredEndpoint("modules/who/inputs/i")'))),
    ("up-protocol-consistent", hub_env(UpstreamProtocol="Mqtt")),
    ("module-name", manifest(("agent/modules/-m", module()))),
    ("hub-ttl-missing", manifest(("hub/storeAndForwardConfiguration", {}))),
    ("manifest-invalid", {}),
    ("manifest-invalid", manifest(("agent/modules/temp/env/A B", {"value": "c"}))),
    ("manifest-invalid", create_options('{"Labels": {"note": "' + "x" * 4096 + '"}}')),
    ("placeholder-strict", manifest(("hub/routes/up", "FROM /* INTO ${SINK}"))),
    ("placeholder", manifest(("temp/properties.desired/url", "${URL}"))),
    ("runtime-registry", manifest(("agent/systemModules/edgeAgent/settings/image", "mcr.microsoft.com/agent:1.5.4"))),
    ("manifest-invalid", 7),
    ("manifest-invalid", {"modulesContent": {"$edgeAgent": []}}),
]


@pytest.mark.parametrize(("rule", "document"), MORE)
def test_a_rule_stops_at_the_other_forms_of_it(rule: str, document: Any) -> None:
    assert found(subject(document), rule) != []
