"""The exact edges of queries: numbers that just fit, paths of one name, remainders."""

from types import MappingProxyType

import pytest
from pyroaring import BitMap

from events.query.errors import ConditionInvalid, QueryInvalid
from events.query.evaluate import row_test
from events.query.grammar import DEPTH_MAX
from events.query.module_condition import can_be_for, parse_module_condition
from events.query.parse import parse
from events.query.select import among
from events.query.tree import Expression, Op, equalities, paths_of
from tests.query.test_aggregate import results, tagged

EVERY_DEVICE = "select * from devices where"


@pytest.mark.parametrize(("halves", "shown"), [(2**62, 2.0**63), (-(2**62), -(2.0**63))])
def test_a_sum_that_does_not_fit_64_bits_is_a_float(halves: int, shown: float) -> None:
    (row,) = results("select sum(tags.a) as s", tagged(a=halves), tagged(a=halves))
    assert (row["s"], type(row["s"])) == (shown, float)
    (row,) = results("select sum(tags.a) as s", tagged(a=halves), tagged(a=halves - (1 if halves > 0 else -1)))
    assert type(row["s"]) is int


@pytest.mark.parametrize(
    ("where", "path"),
    [
        ("devices.modules = 1", ("modules",)),
        ("devices = 1", ("devices",)),
        ("properties = 1", ("properties",)),
        ("devices.modules.tags.a = 1", ("tags", "a")),
    ],
)
def test_a_path_of_one_name_stays_one(where: str, path: tuple[str, ...]) -> None:
    assert paths_of(parse(f"{EVERY_DEVICE} {where}").where) == {path}


def test_a_character_that_nothing_begins_with_is_told_with_what_may_stand_there() -> None:
    with pytest.raises(QueryInvalid) as caught:
        parse("select * from devices where ~")
    assert "expected" in str(caught.value)


def test_a_query_is_nested_as_deep_as_its_limit_and_no_deeper() -> None:
    def nested(depth: int) -> str:
        return f"{EVERY_DEVICE} {'NOT ' * (depth - 1)}tags.a = 1"

    assert paths_of(parse(nested(DEPTH_MAX)).where) == {("tags", "a")}
    with pytest.raises(QueryInvalid, match=f"deeper than {DEPTH_MAX}"):
        parse(nested(DEPTH_MAX + 1))


@pytest.mark.parametrize("character", ["\t", " ", "\ud7ff", "\ue000", "\U0001f600"])
def test_whole_characters_are_text(character: str) -> None:
    assert paths_of(parse(f"{EVERY_DEVICE} tags.a = '{character}'").where) == {("tags", "a")}


@pytest.mark.parametrize("character", ["\x1f", "\ud800", chr(0xDFFF)])
def test_controls_and_halves_of_pairs_are_not(character: str) -> None:
    with pytest.raises(QueryInvalid, match="lone surrogates"):
        parse(f"{EVERY_DEVICE} tags.a = '{character}'")


def test_a_condition_of_a_module_is_nested_a_hundred_deep_and_no_deeper() -> None:
    def nested(depth: int) -> str:
        return "FROM devices.modules WHERE moduleId = 'm' AND " + "NOT " * depth + "tags.a = 1"

    assert parse_module_condition(nested(98)).module_id == "m"
    with pytest.raises(ConditionInvalid, match="nested"):
        parse_module_condition(nested(99))


def test_one_value_in_a_list_is_a_condition_on_that_value() -> None:
    def condition(text: str) -> Expression:
        return parse_module_condition(f"FROM devices.modules WHERE {text}").condition

    assert condition("tags.a IN [1]") == condition("tags.a = 1")
    assert condition("tags.a IN [1, 2]") == condition("tags.a = 1 OR tags.a = 2")


def test_a_row_may_be_a_mapping_of_any_kind() -> None:
    test = row_test(parse(f"{EVERY_DEVICE} tags.a = 1").where)
    assert test(MappingProxyType({"tags": MappingProxyType({"a": 1})}))
    assert not test(MappingProxyType({"tags": 1}))


def test_no_configuration_is_for_a_system_module() -> None:
    assert [can_be_for(name) for name in ("m", "a$", "$edgeAgent", "$edgeHub")] == [True, True, False, False]


def test_pairs_that_are_compared_for_equality_are_those_with_a_value() -> None:
    where = parse(f"{EVERY_DEVICE} tags.a = 1 and tags.b in ['x', 2] and tags.c <> 3 and not 'z' = tags.d").where
    assert set(equalities(where)) == {
        (("tags", "a"), 1),
        (("tags", "b"), "x"),
        (("tags", "b"), 2),
        (("tags", "d"), "z"),
    }
    assert equalities(parse(f"{EVERY_DEVICE} tags.a = null").where) == ()


def test_those_among_whom_a_comparison_is_true_are_those_whose_value_compares() -> None:
    values = ((1, BitMap([1])), (2, BitMap([2])), ("x", BitMap([3])))
    assert among(Op.GT, 1, *values) == BitMap([2])
    assert among(Op.NE, 1, *values) == BitMap([2])
    assert among(Op.LE, 2, *values) == BitMap([1, 2])
