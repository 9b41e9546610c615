from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from events.query.aggregate import Aggregating
from events.query.parse import parse
from events.query.tree import UNDEFINED, Query
from tests.query.given import aggregates, rows


def results(query: str | Query, *fleet: dict[str, Any]) -> list[dict[str, Any]]:
    aggregating = Aggregating(parse(query) if isinstance(query, str) else query)
    for row in fleet:
        aggregating.add(row)
    return aggregating.results()


def tagged(**tags: Any) -> dict[str, Any]:
    return {"tags": tags}


SITES = "SELECT tags.site AS s, COUNT() AS n FROM devices GROUP BY tags.site"
BY_A = "select tags.a, count() group by tags.a"


def test_rows_are_counted_by_group_in_the_order_of_the_groups() -> None:
    fleet = [tagged(site="b"), tagged(site="a"), tagged(site="b")]
    assert results(SITES, *fleet) == [{"s": "a", "n": 1}, {"s": "b", "n": 2}]


def test_a_group_without_the_property_has_no_key_for_it() -> None:
    assert results(SITES, tagged(), {}, tagged(site={"x": 1}), tagged(site=None)) == [{"n": 3}, {"s": None, "n": 1}]


def test_groups_of_other_types_are_other_groups_and_equal_numbers_are_one() -> None:
    fleet = [tagged(a=value) for value in ("1", 1.0, True, 1, False, 0)]
    found = results(BY_A, *fleet)
    assert [(repr(row["a"]), row["count"]) for row in found] == [
        ("False", 1),
        ("True", 1),
        ("0", 1),
        ("1", 2),
        ("'1'", 1),
    ]


def test_groups_can_have_two_properties_and_no_aggregate() -> None:
    fleet = [tagged(a="x", b=1), tagged(a="x", b=2), tagged(a="x", b=1)]
    assert results("select tags.b, tags.a group by tags.a, tags.b", *fleet) == [{"b": 1, "a": "x"}, {"b": 2, "a": "x"}]


def test_of_no_rows_there_is_a_count_of_0_and_nothing_else() -> None:
    everything = "select count(), avg(tags.a), sum(tags.a), min(tags.a), max(tags.a)"
    assert results(everything) == [{"count": 0}]
    assert results(everything, tagged(a="5"), tagged(a=True), tagged()) == [{"count": 3}]
    assert results(BY_A) == []


def test_numbers_are_added_up_exactly_and_all_else_is_skipped() -> None:
    fleet = [tagged(a=value) for value in (0.1, 0.2, "7", 4, 0.3, True, None)]
    assert results("select avg(tags.a) as a, sum(tags.a), min(tags.a), max(tags.a)", *fleet) == [
        {"a": 1.15, "sum": 4.6, "min": 0.1, "max": 4}
    ]
    cancelling = [tagged(a=value) for value in (1e300, 1, -1e300)]
    assert results("select sum(tags.a)", *cancelling) == [{"sum": 1}]


def test_what_is_whole_shows_as_an_integer_and_what_is_beyond_floats_not_at_all() -> None:
    assert repr(results("select sum(tags.a), max(tags.a)", tagged(a=1.0), tagged(a=2))) == "[{'sum': 3, 'max': 2}]"
    assert repr(results("select sum(tags.a)", tagged(a=2**62), tagged(a=2**62))) == f"[{{'sum': {2.0**63!r}}}]"
    assert results("select sum(tags.a)", tagged(a=1.7e308), tagged(a=1.7e308)) == [{}]


def test_top_bounds_the_groups() -> None:
    fleet = [tagged(a=value) for value in (3, 1, 2)]
    assert results("select top 2 tags.a group by tags.a", *fleet) == [{"a": 1}, {"a": 2}]


def test_counts_can_come_from_sets() -> None:
    by_site = Aggregating(parse(SITES))
    by_site.add_count(("a",), 7)
    by_site.add_count((UNDEFINED,), 2)
    by_site.add_count(("b",), 0)
    by_site.add(tagged(site="a"))
    assert by_site.results() == [{"n": 2}, {"s": "a", "n": 8}]
    total = Aggregating(parse("select count()"))
    total.add_count(None, 5)
    assert total.results() == [{"count": 5}]


@settings(derandomize=True, deadline=None, max_examples=150)
@given(aggregates(), st.lists(rows, max_size=8), st.integers(0, 8), st.randoms(use_true_random=False))
def test_parts_in_any_order_make_the_same_whole(
    query: Query, fleet: list[dict[str, Any]], cut: int, chance: Any
) -> None:
    whole = results(query, *fleet)
    chance.shuffle(fleet)
    one, other = Aggregating(query), Aggregating(query)
    for row in fleet[:cut]:
        one.add(row)
    for row in fleet[cut:]:
        other.add(row)
    before = repr(other.results())
    one.merge(other)
    assert repr(one.results()) == repr(whole)
    assert repr(other.results()) == before
