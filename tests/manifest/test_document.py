"""Reading manifests as documents."""

from typing import Any

import pytest

from events.manifest.document import (
    DEVICE,
    ROUTE_PRIORITY_DEFAULT,
    STARTUP_ORDER_DEFAULT,
    Kind,
    by_module,
    content_of,
    desired_status,
    in_modern_form,
    is_layered,
    kind_of,
    read_agent,
    read_hub,
)
from tests.manifest.contents import agent, content, hub, layer, module


def test_a_content_is_found_bare_and_in_a_wrapper() -> None:
    bare = content()
    assert content_of(bare) == bare
    assert content_of({"content": bare, "metrics": {}, "id": "x"}) == bare
    assert content_of({"$schema-template": "4.0.0", **bare}) == bare


def test_the_old_spelling_is_read_as_the_new_one() -> None:
    modules = content()["modulesContent"]
    assert content_of({"moduleContent": modules}) == {"modulesContent": modules}
    assert content_of({"content": {"moduleContent": modules}}) == {"modulesContent": modules}


def test_the_old_spelling_needs_no_agent_and_its_neighbours_stay() -> None:
    assert in_modern_form({"moduleContent": {"m": {"properties.desired": {}}}, "note": 1}) == {
        "note": 1,
        "modulesContent": {"m": {"properties.desired": {}}},
    }
    empty = {"modulesContent": None, "moduleContent": {"$edgeAgent": {}}}
    assert in_modern_form(empty) == {"modulesContent": {"$edgeAgent": {}}}


@pytest.mark.parametrize(
    "content",
    [
        {"moduleContent": {}},
        {"moduleContent": {"propertis.desired.x": 1}},
        {"moduleContent": 1},
        {"moduleContent": {"properties.desired": {}}},
        7,
        None,
    ],
)
def test_everything_else_stays_as_it_is(content: Any) -> None:
    assert in_modern_form(content) == content


def test_what_sets_the_properties_of_one_module_is_no_old_spelling() -> None:
    one = {"moduleContent": {"properties.desired.x": 1}}
    assert content_of({"content": one, "priority": 1}) == one


def test_two_kinds_stay_two_for_validation_to_refuse() -> None:
    both = {"modulesContent": {}, "moduleContent": {}}
    assert content_of(both) == both


@pytest.mark.parametrize("document", [None, 1, "text", [], {"content": None}, {"content": []}, {}], ids=str)
def test_what_is_no_content_is_answered_as_it_is(document: Any) -> None:
    expected = document["content"] if isinstance(document, dict) and document else document
    assert content_of(document) == expected


def test_a_content_is_layered_unless_it_sets_the_agents_whole_section() -> None:
    assert not is_layered(content())
    assert is_layered(layer({"modules.camera": module()}))
    assert is_layered({"modulesContent": {"$edgeAgent": {}}, "deviceContent": None})


def test_a_content_for_devices_own_twins_is_neither_a_base_nor_a_layer() -> None:
    own = {"deviceContent": {"properties.desired.x": 1}, "modulesContent": None}
    assert kind_of(own) is Kind.DEVICE
    assert kind_of(content()) is Kind.EDGE
    assert not is_layered(own)
    assert by_module(own) == {DEVICE: {"properties.desired.x": 1}}
    assert by_module(content()) == content()["modulesContent"]


def test_an_agent_section_is_read_with_the_agents_defaults() -> None:
    section = agent(
        modules={
            "plain": {"type": "docker", "status": "stopped", "restartPolicy": "never", "settings": {"image": " a "}},
            "full": module(
                "b:1",
                version="2",
                startupOrder=3,
                imagePullPolicy="never",
                env={"A": {"value": 1}, "B": {"value": {"$secret": "s"}}},
                settings={"image": "b:1", "createOptions": '{"a"', "createOptions01": ":1}"},
            ),
        },
        runtime={
            "type": "docker",
            "settings": {
                "registryCredentials": {
                    "r": {"address": "r.example.com", "username": "u", "password": {"$secret": "p"}}
                }
            },
        },
    )
    read = read_agent(section)
    assert read.schema_version == "1.1"
    assert read.registries["r"].password == {"$secret": "p"}
    plain, full = read.modules["plain"], read.modules["full"]
    assert (plain.image, plain.status, plain.restart_policy) == ("a:latest", "stopped", "never")
    assert (plain.startup_order, plain.create_options, plain.env) == (STARTUP_ORDER_DEFAULT, "", {})
    assert (full.version, full.startup_order, full.image_pull_policy) == ("2", 3, "never")
    assert full.create_options == '{"a":1}'
    assert full.env == {"A": 1, "B": {"$secret": "s"}}
    assert read.system_modules["edgeAgent"].startup_order == 0
    assert read.system_modules["edgeAgent"].restart_policy == "always"
    assert read.system_modules["edgeHub"].startup_order == STARTUP_ORDER_DEFAULT


def test_a_hub_section_is_read_with_the_hubs_defaults() -> None:
    read = read_hub(
        hub(routes={"a": "FROM /* INTO $upstream", "b": {"route": "FROM /b INTO $upstream", "priority": 2}})
    )
    assert read.routes["a"].priority == ROUTE_PRIORITY_DEFAULT
    assert (read.routes["b"].priority, read.routes["b"].time_to_live_seconds) == (2, 0)
    assert read.store_and_forward.time_to_live_seconds == 7200


def test_the_desired_status_names_every_module_and_the_agent_always_runs() -> None:
    section = agent(modules={"temp": module(), "edgeHub": module(status="stopped")})
    section["systemModules"]["edgeAgent"]["status"] = "stopped"
    assert desired_status({"$edgeAgent": section}) == {
        "$edgeAgent": "running",
        "$edgeHub": "running",
        "temp": "running",
        "edgeHub": "stopped",
    }


@pytest.mark.parametrize(
    "section",
    [
        {},
        {"modules": []},
        {"modules": {"a": 1, "b": {}, "c": {"status": ["running"]}, "d": {"status": "flying"}}},
        {"systemModules": "x"},
        {"systemModules": {"edgeAgent": None, "edgeHub": [], "other": {"status": "running"}}},
    ],
    ids=str,
)
def test_odd_shapes_have_no_desired_status(section: dict[str, Any]) -> None:
    assert desired_status({"$edgeAgent": section}) == {}


def test_without_an_agent_section_nothing_is_desired() -> None:
    assert desired_status({}) == {}
