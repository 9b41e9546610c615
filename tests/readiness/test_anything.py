"""Whatever stands in a manifest, it is checked; and no secret of it comes out."""

import copy
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from events.readiness.check import check, fixes
from events.readiness.host_facts import HostFacts, read_host_facts
from events.readiness.subject import subject_of_sections
from tests.manifest.values import anything
from tests.readiness.examples import EXAMPLES
from tests.readiness.manifests import EVERYTHING, NOW, READY, manifest, subject
from tests.readiness.patching import patched
from tests.shortening import examples

LEAVES = anything | st.sampled_from(
    [
        *("{", '{"HostConfig": []}', '{"Env": ["A"]}', "[]", "null", "${X}", "\ud800", "x" * 600),
        -1,
        2**70,
        1e400,
        [],
        {},
    ]
)


def whole(value: Any) -> None:
    """Check and mend a value as a manifest and as a layer; nothing may be raised."""
    for asked in (subject(value), subject(READY, value), subject(value, value, template=True)):
        report = check(asked, EVERYTHING, now=NOW)
        for finding in report.findings:
            json.dumps([finding.pointer, finding.message, finding.module, finding.document]).encode()
            (finding.pointer + finding.message).encode()
            assert len(finding.message) < 10_000
        for _, steps in fixes(asked, EVERYTHING, now=NOW):
            patched(value, steps)


@settings(derandomize=True, deadline=None, max_examples=examples(250))
@given(value=anything)
@example({"modulesContent": []})
@example({"content": None})
@example({"id": 7, "content": {}, "labels": [], "priority": "1"})
@example(
    {"modulesContent": {"$edgeAgent": {"properties.desired": {"modules": {"\ud800": {"settings": {"image": 1}}}}}}}
)
def test_any_json_value_is_answered(value: Any) -> None:
    whole(value)


def locations(document: Any) -> list[tuple[Any, Any]]:
    """Every container of a document with each of its keys."""
    found, nodes = [], [document]
    for node in nodes:
        pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in pairs:
            found.append((node, key))
            nodes.append(value)
    return found


@settings(derandomize=True, deadline=None, max_examples=examples(250))
@given(data=st.data())
def test_a_manifest_in_which_anything_was_changed_is_answered(data: st.DataObject) -> None:
    document = copy.deepcopy(
        data.draw(st.sampled_from([READY, *(asked.last.content for asked, _ in EXAMPLES.values())]))
    )
    for _ in range(data.draw(st.integers(1, 3))):
        if not (candidates := locations(document)):
            break
        holder, key = data.draw(st.sampled_from(candidates))
        holder[key] = data.draw(LEAVES)
    whole(document)


OPTION_NAMES = st.sampled_from(
    [
        *(
            "HostConfig",
            "hostconfig",
            "Env",
            "Cmd",
            "ExposedPorts",
            "Volumes",
            "Labels",
            "PortBindings",
            "Binds",
            "Mounts",
        ),
        *("LogConfig", "Config", "Type", "Devices", "CapAdd", "Memory", "RestartPolicy", "Name", "HostPort", "HostIp"),
        *("80/tcp", "PathOnHost", "Source", "Target", "Dns"),
    ]
)


@settings(derandomize=True, deadline=None, max_examples=examples(250))
@given(
    options=st.recursive(
        anything,
        lambda inner: st.dictionaries(OPTION_NAMES, inner, max_size=5) | st.lists(inner, max_size=2),
        max_leaves=20,
    ),
    as_text=st.booleans(),
)
def test_any_create_options_are_answered(options: Any, as_text: bool) -> None:  # noqa: FBT001
    value = json.dumps(options) if as_text else options
    whole(manifest(*((f"agent/modules/{name}/settings/createOptions", value) for name in ("temp", "alarm"))))


@settings(derandomize=True, deadline=None, max_examples=examples(100))
@given(section=anything)
@example({"upstreamProtocol": "\ud800"})
def test_any_host_facts_are_accepted(section: Any) -> None:
    read = read_host_facts(section)
    assert isinstance(read, HostFacts | str)
    check(subject_of_sections({}, name="edge1", host=read), EVERYTHING, now=NOW)


def test_a_very_deep_manifest_is_answered() -> None:
    deep: Any = {}
    for _ in range(3000):
        deep = {"modules": deep}
    whole({"modulesContent": {"$edgeAgent": {"properties.desired": deep}}})


SECRET = "hunter2-hunter2"
PLACES = [
    "agent/runtime/settings/registryCredentials/own/password",
    "agent/modules/temp/env/KEY/value",
    "agent/systemModules/edgeHub/env/UpstreamProtocol/value",
    "agent/systemModules/edgeHub/env/https_proxy/value",
    "agent/systemModules/edgeHub/env/StorageFolder/value",
    "agent/systemModules/edgeAgent/env/ModuleUpdateMode/value",
    "agent/systemModules/edgeHub/env/OptimizeForPerformance/value",
]


@pytest.mark.parametrize("path", PLACES)
@pytest.mark.parametrize("form", ["{}", "${{{}}}", "${}", "<{}>", "__{}", "/{}", '["{}"]', "{}\ud800"])
def test_no_password_and_no_value_of_a_variable_stands_in_a_finding(path: str, form: str) -> None:
    secret = form.format(SECRET.replace("-", "_"))
    for value in (secret, [secret], {"a": secret}, {"$secret": 1, "x": secret}):
        for document in (manifest((path, value)), {**manifest((path, value)), "$schema-template": "1"}):
            assert "hunter2" not in repr(check(subject(document), EVERYTHING, now=NOW))


@pytest.mark.parametrize(
    "options", [{"Env": ["KEY=" + SECRET, "IOTEDGE_X=" + SECRET]}, {"Env": {"KEY": SECRET}}, {"Env": "KEY=" + SECRET}]
)
def test_no_variable_of_create_options_stands_in_a_finding(options: dict[str, Any]) -> None:
    for written in (json.dumps(options), options, json.dumps(options)[:-1]):
        document = manifest(
            ("agent/modules/temp/settings/createOptions", written), ("agent/modules/temp/env/KEY/value", "v")
        )
        assert "hunter2" not in repr(check(subject(document), EVERYTHING, now=NOW))
