"""Which devices have which parent, as a partition keeps it."""

from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap

from events.fleet.directory import Children

_moves = st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["", "a", "b"])))


@given(moves=_moves)
def test_a_device_is_a_child_of_the_parent_it_had_last(moves: list[tuple[int, str]]) -> None:
    children, last = Children(), dict[int, str]()
    for ordinal, scope in moves:
        children.put(ordinal, scope)
        last[ordinal] = scope
    expected: dict[str, BitMap] = {}
    for ordinal, scope in last.items():
        if scope:
            expected.setdefault(scope, BitMap()).add(ordinal)
    assert children.of == expected


@given(before=_moves, after=_moves)
def test_what_was_put_back_goes_on_as_if_it_had_never_been_away(
    before: list[tuple[int, str]], after: list[tuple[int, str]]
) -> None:
    one, other = Children(), Children()
    for ordinal, scope in before:
        one.put(ordinal, scope)
    other.restore({scope: BitMap(members) for scope, members in one.of.items()})
    one.changed.clear()
    for ordinal, scope in after:
        one.put(ordinal, scope)
        other.put(ordinal, scope)
    assert (one.of, one.changed) == (other.of, other.changed)


def test_only_what_changes_is_noted() -> None:
    children = Children()
    children.put(1, "a")
    assert children.changed == {"a"}
    children.changed.clear()
    children.put(1, "a")
    children.put(2, "")
    assert children.changed == set()
    children.put(1, "b")
    assert children.changed == {"a", "b"}
