"""When each property was last set: the kept tree against one that keeps a stamp for every property."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from events.device.state import Stamp, metadata, restamped
from events.device.times import time_text
from events.properties import merge_patch

NAMES = st.sampled_from("abc")
VALUES = st.recursive(
    st.none() | st.integers(0, 3), lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
PATCHES = st.lists(st.dictionaries(NAMES, VALUES, max_size=3), max_size=6)


def stamp_all(value: dict[str, Any], known: dict[str, Any], patch: dict[str, Any], stamp: Stamp) -> dict[str, Any]:
    """The plain way: every property of `value`, which has been patched, with a stamp of its own."""
    stamps: dict[str, Any] = {}
    for name, item in value.items():
        inner = patch.get(name)
        touched = name in patch
        former = known.get(name, (stamp, {}))
        children = item if isinstance(item, dict) else {}
        if not touched:
            stamps[name] = former
        else:
            patched = inner if isinstance(inner, dict) else {}
            stamps[name] = (stamp, stamp_all(children, former[1], patched, stamp))
    return stamps


def shown(stamp: Stamp, children: dict[str, Any]) -> dict[str, Any]:
    told = {"$lastUpdated": time_text(stamp.at), "$lastUpdatedVersion": stamp.version}
    return told | {name: shown(*of) for name, of in children.items()}


@given(PATCHES)
def test_a_property_keeps_its_stamp_until_it_is_patched_itself(patches: list[dict[str, Any]]) -> None:
    value: dict[str, Any] = {}
    tree: dict[str, Any] = {}
    every: dict[str, Any] = {}
    stamp = Stamp(0, 1)
    for number, patch in enumerate(patches, start=2):
        tree = restamped(value, patch, tree, stamp)
        value = merge_patch(value, patch)
        stamp = Stamp(1000 * number, number)
        every = stamp_all(value, every, patch, stamp)
    assert metadata(value, tree, stamp, versions=True) == shown(stamp, every)


def test_a_section_set_at_once_keeps_no_stamps() -> None:
    assert restamped({}, {"a": {"b": 1}}, {}, Stamp(0, 1)) == {}
    assert restamped({"a": {"b": 1}}, {"a": {"b": 2}}, {}, Stamp(0, 1)) == {}
