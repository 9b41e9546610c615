"""Which tags have too many values for the index follows from the events, and not from the batches they came in."""

import random
from typing import Any

import pytest

from events.bitmaps import to_bytes
from events.fleet import index as index_module
from events.fleet.column import ValueKey
from events.fleet.directory import Directory
from events.fleet.index import Index
from events.query.tree import Path

BUDGET = 6
DEVICES = 9
NAMED: Path = ("tags", "named")
NAMES = ("named", "free", "outer")
Patch = dict[str, Any] | None
"""A patch of tags; `None` retires the device."""


def drawn(draw: random.Random, spread: int) -> tuple[int, Patch]:
    if draw.random() < 0.03:
        return draw.randrange(DEVICES), None
    values = [
        None,
        {"inner": draw.randrange(spread)},
        {"$secret": "7"},
        [1],
        *range(spread),
        *(f"s{number}" for number in range(spread)),
    ]
    names = draw.sample(NAMES, draw.randint(1, len(NAMES)))
    return draw.randrange(DEVICES), {name: draw.choice(values) for name in names}


def applied(events: list[tuple[int, Patch]], batch: int) -> tuple[set[Path], dict[tuple[Path, ValueKey], bytes]]:
    """The tags over the budget and the stored sets, when each so many events are resolved."""
    index, stored = Index(Directory()), dict[tuple[Path, ValueKey], bytes]()
    index.name({NAMED})
    for number, (ordinal, patch) in enumerate(events, 1):
        if patch is None:
            index.forget(ordinal)
        else:
            index.patch_tags(ordinal, patch)
        if number % batch == 0 or number == len(events):
            index.take_touched()
            for path, key, members in index.changes():
                stored.pop((path, key), None)
                if members:
                    stored[path, key] = to_bytes(members)
    return index.over_budget, stored


@pytest.mark.parametrize("spread", [2, 3, 8])
@pytest.mark.parametrize("seed", range(12))
def test_tags_over_the_budget_and_all_sets_are_the_same_in_batches_of_any_size(
    monkeypatch: pytest.MonkeyPatch, seed: int, spread: int
) -> None:
    monkeypatch.setattr(index_module, "CARDINALITY_BUDGET", BUDGET)
    draw = random.Random(100 * spread + seed)  # noqa: S311 - events that are the same each time
    events = [drawn(draw, spread) for _ in range(150)]
    one_by_one = applied(events, 1)
    assert spread < 8 or one_by_one[0] >= {NAMED}
    for batch in (2, 7, 40, len(events)):
        assert applied(events, batch) == one_by_one
