"""The exact edges of queries: numbers that just fit, paths of one name, remainders."""

import pytest

from events.query.errors import QueryInvalid
from events.query.parse import parse
from events.query.tree import where_paths
from tests.query.test_aggregate import results, tagged

EVERY_DEVICE = "select * from devices where"


@pytest.mark.parametrize(
    ("halves", "shown"),
    [(2**62, 2.0**63), (-(2**62), -(2.0**63))],
)
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
    assert where_paths(parse(f"{EVERY_DEVICE} {where}")) == {path}


def test_a_character_that_nothing_begins_with_is_told_with_what_may_stand_there() -> None:
    with pytest.raises(QueryInvalid) as caught:
        parse("select * from devices where ~")
    assert "expected" in str(caught.value)
