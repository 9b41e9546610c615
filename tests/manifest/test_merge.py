"""Merging a stack of deployments."""

import copy
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from events.manifest.merge import Conflict, conflicts, contributes, merge, over_limit
from tests.manifest.contents import agent, content, layer, module
from tests.manifest.values import objects


def test_a_base_alone_gives_its_own_sections() -> None:
    assert merge({"m": {"properties.desired": {"a": 1}}}, []) == {"m": {"a": 1}}


def test_a_path_is_set_and_its_siblings_stay() -> None:
    base = {"m": {"properties.desired": {"SendData": True, "nested": {"a": 1, "b": 2}}}}
    over = {"m": {"properties.desired.nested.b": {"c": 3}, "properties.desired.more": 4}}
    assert merge(base, [over]) == {"m": {"SendData": True, "nested": {"a": 1, "b": {"c": 3}}, "more": 4}}


def test_an_object_at_a_path_replaces_what_was_there() -> None:
    base = {"m": {"properties.desired": {"x": {"old": 1}}}}
    assert merge(base, [{"m": {"properties.desired.x": {"new": 2}}}]) == {"m": {"x": {"new": 2}}}


def test_properties_desired_replaces_the_whole_section_so_far() -> None:
    stack = [{"m": {"properties.desired.b": 2}}, {"m": {"properties.desired": {"c": 3}}}]
    assert merge({"m": {"properties.desired": {"a": 1}}}, stack) == {"m": {"c": 3}}


def test_a_path_through_a_scalar_or_a_secret_makes_an_object_of_it() -> None:
    base = {"m": {"properties.desired": {"a": 1, "b": {"$secret": "id"}}}}
    over = {"m": {"properties.desired.a.x": 1, "properties.desired.b.x": 2}}
    assert merge(base, [over]) == {"m": {"a": {"x": 1}, "b": {"x": 2}}}


def test_null_stands_for_nothing_there() -> None:
    base = {"m": {"properties.desired": {"a": 1, "b": None, "c": {"d": None}}}}
    assert merge(base, [{"m": {"properties.desired.a": None}}]) == {"m": {"c": {}}}


def test_a_layer_adds_a_module_a_route_and_a_twin() -> None:
    camera = layer({"modules.camera": module()}, {"routes.camera": "FROM /* INTO $upstream"})["modulesContent"]
    sections = merge(content()["modulesContent"], [camera])
    assert sorted(sections["$edgeAgent"]["modules"]) == ["camera", "temp"]
    assert sorted(sections["$edgeHub"]["routes"]) == ["camera", "up"]


def test_an_empty_module_contributes_nothing() -> None:
    over = {"$edgeAgent": {}, "m": {"properties.desired.x": 1}}
    assert merge({}, [over]) == {"m": {"x": 1}}
    assert not contributes(over, "$edgeAgent")
    assert not contributes(over, "other")
    assert contributes(over, "m")


def test_within_one_deployment_shorter_paths_come_first_whatever_their_order() -> None:
    paths = {
        "properties.desired.a.b.c": 3,
        "properties.desired.a": {"b": {"c": 1, "d": 1}},
        "properties.desired": {"a": 0, "z": 9},
        "properties.desired.a.b": {"c": 2, "d": 2},
    }
    expected = {"m": {"a": {"b": {"c": 3, "d": 2}}, "z": 9}}
    assert merge({"m": paths}, []) == expected
    assert merge({"m": dict(reversed(paths.items()))}, []) == expected


DEEPER = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(".".join)
PATHS = st.builds(
    lambda whole, parts: {
        **({} if whole is None else {"properties.desired": whole}),
        **{f"properties.desired.{path}": value for path, value in parts.items()},
    },
    st.none() | objects,
    st.dictionaries(DEEPER, objects | st.integers(0, 1) | st.booleans() | st.none(), max_size=3),
)
CONTENTS = st.dictionaries(st.sampled_from(["m", "n"]), PATHS, max_size=2)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(CONTENTS, st.lists(CONTENTS, max_size=3), st.randoms(use_true_random=False))
def test_key_order_does_not_matter_and_inputs_stay_as_they_are(base: Any, layers: Any, draw: Any) -> None:
    def shuffled(contents: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {name: dict(draw.sample(sorted(paths.items(), key=str), len(paths))) for name, paths in contents.items()}

    before = copy.deepcopy((base, layers))
    merged = merge(base, layers)
    assert merge(shuffled(base), [shuffled(over) for over in layers]) == merged
    assert (base, layers) == before


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.lists(CONTENTS, min_size=1, max_size=4))
def test_merging_in_steps_is_merging_at_once(stack: Any) -> None:
    stepwise: dict[str, Any] = {}
    for over in stack:
        sections = merge(stepwise, [over])
        stepwise = {name: {"properties.desired": section} for name, section in sections.items()}
    assert {name: {"properties.desired": section} for name, section in merge({}, stack).items()} == stepwise


def test_the_answer_shares_no_object_with_its_inputs() -> None:
    base = {"m": {"properties.desired": {"a": {"b": 1}}}}
    merge(base, [])
    sections = merge(base, [{"m": {"properties.desired.a.b": 2}}])
    sections["m"]["a"]["b"] = 3
    assert base == {"m": {"properties.desired": {"a": {"b": 1}}}}


def test_a_conflict_names_who_wins_and_who_loses() -> None:
    stack = [
        ("base", {"m": {"properties.desired": {"rate": 1, "same": True, "kept": 0}}}),
        ("first", {"m": {"properties.desired.rate": 2, "properties.desired.same": True}}),
        ("second", {"m": {"properties.desired.rate": 3}}),
    ]
    assert conflicts(stack) == (Conflict("m", "properties.desired.rate", "second", ("base", "first")),)


def test_replacing_a_whole_section_conflicts_with_what_it_drops() -> None:
    stack = [
        ("base", {"m": {"properties.desired": {"a": {"b": 1}, "c": 2}}}),
        ("over", {"m": {"properties.desired": {"c": 2}}}),
    ]
    assert conflicts(stack) == (Conflict("m", "properties.desired.a.b", "over", ("base",)),)


def test_true_and_one_are_in_conflict_though_python_has_them_equal() -> None:
    stack = [("a", {"m": {"properties.desired.x": True}}), ("b", {"m": {"properties.desired.x": 1}})]
    assert conflicts(stack) == (Conflict("m", "properties.desired.x", "b", ("a",)),)


def test_adding_to_an_empty_object_is_no_conflict() -> None:
    stack = [("a", {"m": {"properties.desired": {"x": {}}}}), ("b", {"m": {"properties.desired.x.y": 1}})]
    assert conflicts(stack) == ()


OPTIONS = "properties.desired.modules.temp.settings.createOptions"
LONG = {"image": "example.com/a:1", "createOptions": '{"Env":["a', "createOptions01": "=1", "createOptions02": '"]}'}


def settings_of(*layers: dict[str, Any], module_id: str = "temp", **given: Any) -> Any:
    base = content(agent=agent(modules={module_id: module(settings={**LONG, **given})}))["modulesContent"]
    section = merge(base, [{"$edgeAgent": over} for over in layers])["$edgeAgent"]
    return section["modules"][module_id]["settings"]


def test_a_layer_that_replaces_create_options_takes_their_further_chunks_away() -> None:
    assert settings_of({OPTIONS: '{"Env":[]}'}) == {"image": "example.com/a:1", "createOptions": '{"Env":[]}'}
    assert settings_of({OPTIONS: "{}"}, createoptions03="x") == {"image": "example.com/a:1", "createOptions": "{}"}
    assert settings_of({OPTIONS.replace("Options", "options"): "{}"}) == {
        "image": "example.com/a:1",
        "createoptions": "{}",
    }
    assert settings_of({OPTIONS: None}) == {"image": "example.com/a:1"}


def test_chunks_that_the_layer_brings_itself_stay_in_whatever_order_it_names_them() -> None:
    brought = {f"{OPTIONS}01": "]}", OPTIONS: '{"Env":['}
    for over in (brought, dict(reversed(brought.items()))):
        assert settings_of(over) == {"image": "example.com/a:1", "createOptions": '{"Env":[', "createOptions01": "]}"}
    assert settings_of(brought, {OPTIONS: "{}"}) == {"image": "example.com/a:1", "createOptions": "{}"}


def test_a_layer_that_sets_a_further_chunk_alone_replaces_that_chunk() -> None:
    assert settings_of({f"{OPTIONS}01": "=2"}) == {**LONG, "createOptions01": "=2"}


def test_system_modules_lose_their_chunks_as_well_and_twins_of_other_modules_lose_nothing() -> None:
    base = content(agent=agent(systemModules={"edgeHub": module(settings=LONG)}))["modulesContent"]
    over = {"$edgeAgent": {"properties.desired.systemModules.edgeHub.settings.createOptions": "{}"}}
    hub = merge(base, [over])["$edgeAgent"]["systemModules"]["edgeHub"]
    assert hub["settings"] == {"image": "example.com/a:1", "createOptions": "{}"}
    own = {"m": {"properties.desired": {"settings": LONG}}}
    twin = merge(own, [{"m": {"properties.desired.settings.createOptions": "{}"}}])["m"]
    assert twin["settings"] == {**LONG, "createOptions": "{}"}


def test_a_chunk_that_is_taken_away_is_a_conflict_won_by_whoever_replaced_the_text() -> None:
    stack = [
        ("base", content(agent=agent(modules={"temp": module(settings=LONG)}))["modulesContent"]),
        ("over", {"$edgeAgent": {OPTIONS: "{}"}}),
    ]
    assert [(one.path, one.winner, one.losers) for one in conflicts(stack)] == [
        (path, "over", ("base",)) for path in (OPTIONS, f"{OPTIONS}01", f"{OPTIONS}02")
    ]


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(CONTENTS, min_size=1, max_size=4))
def test_conflicts_are_sorted_and_the_winner_comes_after_every_loser(stack: Any) -> None:
    named = [(str(number), over) for number, over in enumerate(stack)]
    found = conflicts(named)
    assert all((a.module, a.path.split(".")) < (b.module, b.path.split(".")) for a, b in pairwise(found))
    assert all(loser < conflict.winner for conflict in found for loser in conflict.losers)


def test_fifty_modules_are_allowed_and_one_more_is_named() -> None:
    sections: dict[str, Any] = {"$edgeAgent": {"modules": {f"m{number}": {} for number in range(50)}}}
    assert over_limit(sections) == ""
    sections["$edgeAgent"]["modules"]["one-more"] = {}
    assert over_limit(sections) == "51 modules are more than the 50 that a device can have"


def test_a_section_of_32_kb_is_allowed_and_one_more_byte_is_named() -> None:
    assert over_limit({"m": {"a": "x" * 32767}}) == ""
    excess = over_limit({"ok": {}, "m": {"a": "x" * 32768}})
    assert excess == "the desired properties of m have 32769 bytes, more than 32768"
