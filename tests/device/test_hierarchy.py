"""Parents of devices: who can be one, and which of the hub's two members says so."""

from typing import Any

import msgspec
import pytest

from events.device.commands import DeviceCommand, RegisterDevice, UpdateDevice
from events.device.decider import check, decide, parents_named
from events.device.errors import (
    DeviceError,
    DeviceScopeInvalid,
    HierarchyCyclic,
    HierarchyTooDeep,
    ParentNotEdgeCapable,
    ParentNotFound,
)
from events.device.events import DeviceRegistered, DeviceRetired, DeviceUpdated
from events.device.hierarchy import LAYERS_MAX, Documents, device_of_scope, device_scope, own_scope, parent_scopes
from events.device.state import DeviceDocument
from tests.device.given import device

GATEWAY = device(DeviceRegistered())
SCOPE = own_scope("gateway", GATEWAY)
OTHER = device(DeviceRegistered(), DeviceRetired(), DeviceRegistered())
OTHER_SCOPE = own_scope("other", OTHER)
ABOVE: Documents = {"gateway": GATEWAY, "other": OTHER}


def decided(
    command: DeviceCommand, before: DeviceDocument | None = None, above: Documents = ABOVE
) -> DeviceRegistered | DeviceUpdated:
    check(command)
    event = decide(command, before, None, above=above)
    assert isinstance(event, DeviceRegistered | DeviceUpdated)
    return event


def leaf(parent: str = "") -> DeviceDocument:
    return device(DeviceRegistered(edge=False, parent_scope=parent or msgspec.UNSET))


def edge(parent: str = "") -> DeviceDocument:
    return device(DeviceRegistered(parent_scope=parent or msgspec.UNSET))


def chain(layers: int) -> dict[str, DeviceDocument | None]:
    """Edge devices e0, e1, …, each the parent of the next."""
    found: dict[str, DeviceDocument | None] = {}
    scope = ""
    for number in range(layers):
        document = edge(scope)
        found[f"e{number}"] = document
        scope = own_scope(f"e{number}", document)
    return found


def scope_in(documents: dict[str, DeviceDocument | None], name: str) -> str:
    document = documents[name]
    assert document is not None
    return own_scope(name, document)


def refused(kind: type[DeviceError], command: DeviceCommand, before: DeviceDocument | None, above: Documents) -> str:
    with pytest.raises(kind) as caught:
        decided(command, before, above)
    return str(caught.value)


# -- what is shown


def test_an_edge_device_shows_its_own_scope_and_a_leaf_that_of_its_parent() -> None:
    assert (device_scope("gateway", GATEWAY), parent_scopes(GATEWAY)) == (SCOPE, [])
    assert (device_scope("leaf", leaf(SCOPE)), parent_scopes(leaf(SCOPE))) == (SCOPE, [SCOPE])
    below = edge(SCOPE)
    assert (device_scope("below", below), parent_scopes(below)) == (own_scope("below", below), [SCOPE])
    assert (device_scope("leaf", leaf()), parent_scopes(leaf())) == (None, [])


@pytest.mark.parametrize("name", ["a", "a-b-1", "ms-azure-iot-edge://x-1", "-"])
def test_a_scope_names_its_device(name: str) -> None:
    assert device_of_scope(own_scope(name, GATEWAY)) == name


@pytest.mark.parametrize("text", ["", "gateway", "ms-azure-iot-edge://gateway", "ms-azure-iot-edge://-1", "x" * 300])
def test_what_is_no_scope_names_none(text: str) -> None:
    assert device_of_scope(text) is None


# -- which member says who the parent is


@pytest.mark.parametrize(
    ("asked", "parent"),
    [
        ({}, ""),
        ({"device_scope": SCOPE}, SCOPE),
        ({"parent_scopes": (SCOPE,)}, SCOPE),
        ({"device_scope": SCOPE, "parent_scopes": (SCOPE,)}, SCOPE),
        ({"device_scope": SCOPE, "parent_scopes": ()}, SCOPE),
        ({"device_scope": "", "parent_scopes": ()}, ""),
    ],
)
def test_a_leaf_is_registered_with_its_parent_in_either_member(asked: dict[str, Any], parent: str) -> None:
    assert (decided(RegisterDevice("leaf", edge=False, **asked)).parent_scope or "") == parent


@pytest.mark.parametrize(
    ("asked", "parent"),
    [
        ({}, SCOPE),
        # What clients do that send an identity back: one member changed, the other echoed.
        ({"device_scope": SCOPE, "parent_scopes": (SCOPE,)}, SCOPE),
        ({"device_scope": OTHER_SCOPE, "parent_scopes": (SCOPE,)}, OTHER_SCOPE),
        ({"device_scope": SCOPE, "parent_scopes": (OTHER_SCOPE,)}, OTHER_SCOPE),
        ({"device_scope": OTHER_SCOPE, "parent_scopes": (OTHER_SCOPE,)}, OTHER_SCOPE),
        ({"device_scope": "", "parent_scopes": (SCOPE,)}, ""),
        ({"device_scope": SCOPE, "parent_scopes": ()}, SCOPE),
        ({"device_scope": ""}, ""),
        ({"parent_scopes": ()}, ""),
    ],
)
def test_of_a_leaf_the_member_that_changes_counts(asked: dict[str, Any], parent: str) -> None:
    # With a reason, so that something changes in any case.
    assert (decided(UpdateDevice("leaf", status_reason="x", **asked), leaf(SCOPE)).parent_scope or "") == parent


@pytest.mark.parametrize(
    ("asked", "parent"),
    [
        ({}, SCOPE),
        ({"device_scope": own_scope("below", edge(SCOPE)), "parent_scopes": (OTHER_SCOPE,)}, OTHER_SCOPE),
        ({"parent_scopes": (OTHER_SCOPE,)}, OTHER_SCOPE),
        ({"device_scope": "", "parent_scopes": (SCOPE,)}, SCOPE),
        ({"device_scope": own_scope("below", edge(SCOPE)), "parent_scopes": ()}, ""),
    ],
)
def test_of_an_edge_device_the_parents_count(asked: dict[str, Any], parent: str) -> None:
    assert (decided(UpdateDevice("below", status_reason="x", **asked), edge(SCOPE)).parent_scope or "") == parent


def test_nothing_happens_where_the_parent_stays_and_nothing_else_changes() -> None:
    echoed = UpdateDevice("leaf", device_scope=SCOPE, parent_scopes=(SCOPE,))
    assert decide(echoed, leaf(SCOPE), None, above=ABOVE) is None
    assert decide(UpdateDevice("leaf", device_scope=""), leaf(), None, above=ABOVE) is None


def test_members_that_contradict_each_other_are_refused() -> None:
    both = UpdateDevice("leaf", device_scope=OTHER_SCOPE, parent_scopes=("ms-azure-iot-edge://third-1",))
    assert "deviceScope and parentScopes name different parents" in refused(
        DeviceScopeInvalid, both, leaf(SCOPE), ABOVE
    )
    two = UpdateDevice("leaf", parent_scopes=(SCOPE, OTHER_SCOPE))
    assert "at most one" in refused(DeviceScopeInvalid, two, leaf(), ABOVE)
    own = UpdateDevice("below", device_scope=SCOPE)
    assert "never changes" in refused(DeviceScopeInvalid, own, edge(), ABOVE)
    long = RegisterDevice("leaf", edge=False, device_scope="x" * 300)
    assert "256 characters" in refused(DeviceScopeInvalid, long, None, ABOVE)


def test_a_device_keeps_its_parent_when_it_becomes_an_edge_device_and_when_it_is_none_any_more() -> None:
    was_leaf = UpdateDevice("both", edge=True, device_scope=SCOPE, parent_scopes=(SCOPE,))
    assert decided(was_leaf, leaf(SCOPE)).parent_scope == SCOPE
    was_edge = UpdateDevice("both", edge=False, device_scope=own_scope("both", edge(SCOPE)), parent_scopes=(SCOPE,))
    assert decided(was_edge, edge(SCOPE)).parent_scope == SCOPE
    alone = UpdateDevice("both", edge=False, device_scope=own_scope("both", edge()), parent_scopes=())
    assert decided(alone, edge()).parent_scope is msgspec.UNSET


# -- who can be a parent


def test_a_parent_is_registered_under_the_scope_that_is_named() -> None:
    asks = RegisterDevice("leaf", edge=False, device_scope=SCOPE)
    assert SCOPE in refused(ParentNotFound, asks, None, {"gateway": None})
    assert "read the deviceScope" in refused(ParentNotFound, asks, None, {})
    gone = device(DeviceRegistered(), DeviceRetired())
    refused(ParentNotFound, asks, None, {"gateway": gone})
    again = device(DeviceRegistered(), DeviceRetired(), DeviceRegistered())
    refused(ParentNotFound, asks, None, {"gateway": again})
    refused(DeviceScopeInvalid, RegisterDevice("leaf", edge=False, device_scope="gateway"), None, ABOVE)


def test_a_parent_is_an_edge_device() -> None:
    plain = leaf()
    asks = RegisterDevice("leaf", edge=False, device_scope=own_scope("plain", plain))
    assert "'plain' is not an edge device; set capabilities.iotEdge" in refused(
        ParentNotEdgeCapable, asks, None, {"plain": plain}
    )


def test_no_device_is_above_itself() -> None:
    documents = chain(3)
    asks = UpdateDevice("e0", parent_scopes=(scope_in(documents, "e2"),))
    assert "e0 < e2 < e1 < e0" in refused(HierarchyCyclic, asks, documents["e0"], documents)
    itself = UpdateDevice("e0", parent_scopes=(scope_in(documents, "e0"),))
    refused(HierarchyCyclic, itself, documents["e0"], documents)


def test_below_an_edge_device_are_five_layers_of_edge_devices_and_then_leaves() -> None:
    assert LAYERS_MAX == 5
    documents = chain(6)
    below_the_fourth, below_the_fifth = scope_in(documents, "e4"), scope_in(documents, "e5")
    assert decided(RegisterDevice("e", parent_scopes=(below_the_fourth,)), None, documents).parent_scope
    assert decided(RegisterDevice("l", edge=False, device_scope=below_the_fifth), None, documents).parent_scope
    said = refused(HierarchyTooDeep, RegisterDevice("e", parent_scopes=(below_the_fifth,)), None, documents)
    assert "at most 5 layers" in said
    # A leaf there can become no edge device either.
    refused(HierarchyTooDeep, UpdateDevice("l", edge=True), leaf(below_the_fifth), documents)


def test_a_circle_that_two_writes_at_once_made_is_not_walked_for_ever() -> None:
    one, two = edge(), edge()
    scopes = own_scope("one", one), own_scope("two", two)
    circle = {
        "one": msgspec.structs.replace(one, parent_scope=scopes[1]),
        "two": msgspec.structs.replace(two, parent_scope=scopes[0]),
    }
    refused(HierarchyTooDeep, RegisterDevice("leaf", edge=False, device_scope=scopes[0]), None, circle)
    assert decided(UpdateDevice("one", parent_scopes=()), circle["one"], circle).parent_scope is msgspec.UNSET


def test_the_hierarchy_ends_where_an_ancestor_has_left_or_was_registered_again() -> None:
    """The one that was registered again is below the device by now: of the former one, that says nothing."""
    former, again = edge(), device(DeviceRegistered(), DeviceRetired(), DeviceRegistered())
    former_scope = own_scope("top", former)
    parent = edge(former_scope)
    asks = UpdateDevice("e", parent_scopes=(own_scope("parent", parent),))
    before = edge()
    below = msgspec.structs.replace(again, parent_scope=own_scope("e", before))
    gone = device(DeviceRegistered(), DeviceRetired())
    for top in (below, gone, None):
        assert decided(asks, before, {"parent": parent, "top": top}).parent_scope == own_scope("parent", parent)
    still = msgspec.structs.replace(former, parent_scope=own_scope("e", before))
    refused(HierarchyCyclic, asks, before, {"parent": parent, "top": still})


def test_an_update_without_a_parent_takes_it_away() -> None:
    joined = DeviceRegistered(edge=False, parent_scope=SCOPE)
    assert device(joined, DeviceUpdated(edge=False, enabled=False)).parent_scope == ""
    assert device(joined, DeviceUpdated(edge=False, enabled=False, parent_scope=SCOPE)).parent_scope == SCOPE


def test_a_parent_that_stays_is_not_looked_at_again() -> None:
    for asked in ({}, {"device_scope": SCOPE, "parent_scopes": (SCOPE,)}):
        assert decided(UpdateDevice("leaf", enabled=False, **asked), leaf(SCOPE), {}).parent_scope == SCOPE


def test_a_new_registration_has_no_parent_but_the_one_that_it_names() -> None:
    former = device(DeviceRegistered(edge=False, parent_scope=SCOPE), DeviceRetired())
    assert decided(RegisterDevice("leaf", edge=False), former).parent_scope is msgspec.UNSET


def test_the_parents_to_look_up_are_those_that_are_named_and_kept() -> None:
    asks = UpdateDevice("leaf", device_scope=OTHER_SCOPE, parent_scopes=(SCOPE,))
    assert set(parents_named(asks, None)) == {"other", "gateway"}
    assert parents_named(UpdateDevice("leaf"), leaf(SCOPE)) == ("gateway",)
    assert parents_named(UpdateDevice("leaf", device_scope="nonsense"), None) == ()
