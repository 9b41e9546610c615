"""Reading manifests as documents."""

from typing import Any

import pytest

from events.manifest.document import (
    DEVICE,
    ContentKind,
    by_module,
    content_of,
    desired_status,
    in_modern_form,
    is_layered,
    kind_of,
)
from tests.manifest.contents import agent, content, layer, module


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
    assert kind_of(own) is ContentKind.DEVICE
    assert kind_of(content()) is ContentKind.EDGE
    assert not is_layered(own)
    assert by_module(own) == {DEVICE: {"properties.desired.x": 1}}
    assert by_module(content()) == content()["modulesContent"]


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
