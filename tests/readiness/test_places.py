"""Where findings lead, and what a subject makes of documents that lie over each other."""

import pytest

from events.readiness.subject import subject_of_sections
from tests.readiness.manifests import (
    READY,
    checked,
    found,
    host,
    host_config,
    image,
    layer,
    manifest,
    moby,
    module,
    subject,
    temp,
)

LATEST = "registry.example.com/temp:latest"
IN_TEMP = "/modulesContent/$edgeAgent/properties.desired/modules/temp/settings"


def test_a_finding_leads_to_the_element_of_the_file() -> None:
    (finding,) = found(subject(image(LATEST)), "tag-latest")
    assert (finding.pointer, finding.module, finding.document) == (f"{IN_TEMP}/image", "temp", "0.json")
    assert LATEST in finding.message


def test_a_wrapper_is_part_of_the_way() -> None:
    (finding,) = found(subject({"id": "line", "content": image(LATEST)}), "tag-latest")
    assert (finding.pointer, finding.document) == (f"/content{IN_TEMP}/image", "line")


def test_the_old_spelling_is_part_of_the_way() -> None:
    content = {"moduleContent": image(LATEST)["modulesContent"]}
    (finding,) = found(subject(content), "tag-latest")
    assert finding.pointer.startswith("/moduleContent/$edgeAgent/")


@pytest.mark.parametrize(
    ("path", "value", "pointer"),
    [
        ("modules.temp", module("temp", settings={"image": LATEST}), "properties.desired.modules.temp/settings/image"),
        ("modules.temp.settings", {"image": LATEST}, "properties.desired.modules.temp.settings/image"),
        ("modules.temp.settings.image", LATEST, "properties.desired.modules.temp.settings.image"),
    ],
)
def test_a_path_with_dots_is_one_member_of_the_way(path: str, value: object, pointer: str) -> None:
    (finding,) = found(subject(layer({path: value})), "tag-latest")
    assert finding.pointer == f"/modulesContent/$edgeAgent/{pointer}"


def test_a_slash_in_a_name_is_escaped() -> None:
    (finding,) = found(subject(manifest(("agent/modules", {"a/b~": module()}))), "module-name")
    assert finding.pointer.endswith("/modules/a~1b~0")


def test_a_name_cannot_write_to_a_terminal_or_break_a_line() -> None:
    (finding,) = found(subject(manifest(("agent/modules", {"a\n\x1b[2J": module()}))), "module-name")
    assert finding.module == r"a\n\x1b[2J"
    assert finding.message.isprintable()
    assert finding.pointer.endswith("/modules/a\n\x1b[2J")


def test_in_a_merge_a_finding_leads_to_whoever_wrote_the_element_last() -> None:
    over = layer({"modules.temp.settings.image": "registry.example.com/temp"})
    merged = subject(image(LATEST), over)
    assert found(merged, "tag-latest") == []
    (finding,) = found(merged, "tag-missing")
    assert finding.document == "1.json"
    (rolling,) = found(
        subject(manifest(("agent/systemModules/edgeHub/settings/image", "x/hub:1.5")), over), "tag-rolling-runtime"
    )
    assert rolling.document == "0.json"


def test_a_layer_alone_is_not_asked_for_what_its_base_may_have() -> None:
    assert checked(subject(layer({"modules.temp.env.A": {"value": "b"}}))).findings == ()


def test_a_layers_own_module_is_asked_for_all_of_it() -> None:
    bare = module("extra", settings={"image": "registry.example.com/extra:1.0.0"})
    rules = {finding.rule for finding in checked(subject(layer({"modules.extra": bare}))).findings}
    assert rules == {"log-config", "res-memory", "res-cpu"}


def test_a_layer_on_its_base_is_a_whole() -> None:
    over = layer(hub={"routes.x": "FROM /messages/modules/who/outputs/* INTO $upstream"})
    assert found(subject(over), "route-unknown-module") == []
    (finding,) = found(subject(READY, over), "route-unknown-module")
    assert finding.pointer == "/modulesContent/$edgeHub/properties.desired.routes.x"


def test_an_effective_configuration_is_checked_as_the_manifest_it_would_be() -> None:
    sections = {name: paths["properties.desired"] for name, paths in image(LATEST)["modulesContent"].items()}
    asked = subject_of_sections(sections, name="edge1")
    (finding,) = found(asked, "tag-latest")
    assert (finding.document, finding.pointer) == ("edge1", f"{IN_TEMP}/image")
    assert {one.rule for one in checked(asked).findings} == {"tag-latest"}


def test_an_engine_that_limits_logs_makes_log_config_needless() -> None:
    without = ("agent/modules/temp/settings/createOptions", "")
    assert found(host(None, without), "log-config") != []
    assert found(host(moby(), without), "log-config") == []
    assert found(host(moby(log_driver="json-file"), without), "log-config") != []


def test_fingerprints_do_not_depend_on_form_or_order_or_numbers() -> None:
    written = subject({"id": "a", "content": temp("startupOrder", 1)}, {"id": "b", "content": host_config(Memory=7)})
    (one,) = found(written, "create-options-value")
    moved = {"labels": {}, "id": "b", "content": host_config(Memory=8)}
    (same,) = found(subject(moved), "create-options-value")
    assert one.fingerprint == same.fingerprint
    assert one.message != same.message
    (dotted,) = found(subject({"id": "c", "content": layer({"modules.temp.settings.image": LATEST})}), "tag-latest")
    (nested,) = found(subject({"id": "c", "content": image(LATEST)}), "tag-latest")
    assert dotted.fingerprint == nested.fingerprint


def test_fingerprints_of_a_report_are_all_different() -> None:
    spoiled = host_config(CapAdd=["A"], PidMode="host", IpcMode="host", Binds=["/:/a", "/etc:/b"], Nope=1, Nor=2)
    prints = [finding.fingerprint for finding in checked(subject(spoiled)).findings]
    assert len(set(prints)) == len(prints) > 6


def test_a_template_may_have_placeholders_and_objects() -> None:
    template = {"$schema-template": "4.0.0", **manifest(("agent/modules/temp/env/URL/value", "${URL}"))}
    temp_module = template["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"]["temp"]
    temp_module["settings"] = {"image": "${MODULES.temp}", "createOptions": {"HostConfig": {"Privileged": True}}}
    rules = {finding.rule for finding in checked(subject(template)).findings}
    assert rules == {"privileged", "log-config", "res-memory", "res-cpu"}
    temp_module["settings"]["image"] = "${MODULES.temp.debug}"
    assert found(subject(template), "image-debug") != []
    template["modulesContent"]["$edgeHub"]["properties.desired"]["schemaVersion"] = "${VERSION}"
    assert found(subject(template), "schema-version") == []
