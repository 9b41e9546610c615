"""Since which event a value has been what it is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.device.events import (
    DeviceEvent,
    DeviceRegistered,
    DeviceUpdated,
    ModuleCreated,
    ModuleDeleted,
    PropertiesReported,
    TwinPatched,
    TwinReplaced,
)
from events.device.state import DeviceDocument, evolve_device, section
from events.envelope import Envelope, Principal
from events.explain.last_change import ABSENT, EDGE, ENABLED, LastChanges, Property
from events.query.evaluate import twin_row, value_at
from events.query.tree import UNDEFINED

SITE = Property(("tags", "site"))
ADA = Principal.parse("user:ada")


def envelopes(*events: DeviceEvent | tuple[str, DeviceEvent]) -> list[Envelope[Any]]:
    pairs = [("d", event) if not isinstance(event, tuple) else event for event in events]
    return [
        Envelope(number, subject, number, 1000 * number, ADA, "", event)
        for number, (subject, event) in enumerate(pairs, 1)
    ]


def last_change_of(property_: Property, now: Any, *events: DeviceEvent | tuple[str, DeviceEvent]) -> int | None:
    last_changes = LastChanges("d", {property_: now})
    for envelope in reversed(envelopes(*events)):
        if not last_changes.is_done:
            last_changes.note(envelope)
    change = last_changes.by_property.get(property_)
    return None if change is None else change.position


BORN = DeviceRegistered()


def tagged(**tags: Any) -> TwinPatched:
    return TwinPatched(tags=tags)


@pytest.mark.parametrize(
    ("now", "events", "position"),
    [
        ("a", (BORN, tagged(site="b"), tagged(site="a"), tagged(floor=2)), 3),
        ("a", (BORN, tagged(site="b"), tagged(site="a"), tagged(site="a"), tagged(site="a")), 3),
        (ABSENT, (BORN, tagged(floor=2)), 1),
        (ABSENT, (BORN, tagged(site="b"), tagged(site=None), tagged(floor=2)), 3),
        (ABSENT, (BORN, tagged(site="b"), TwinReplaced({"floor": 2}, {})), 3),
        ("a", (BORN, TwinReplaced({"site": "a"}, {}), TwinPatched(desired={"site": "b"})), 2),
        (1, (BORN, tagged(site=True), tagged(site=1)), 3),
        ({"x": 2}, (BORN, tagged(site={"x": 1}), tagged(site={"x": 2})), 2),
        ("a", (BORN, ("d/m", tagged(site="a")), tagged(site="a"), ("d/m", tagged(site="b"))), 3),
    ],
)
def test_a_tag_goes_back_to_the_event_since_which_it_has_been_so(
    now: Any, events: tuple[DeviceEvent, ...], position: int
) -> None:
    assert last_change_of(SITE, now, *events) == position


def test_reports_modules_and_identities_have_their_own() -> None:
    os = Property(("reported", "os", "name"))
    assert last_change_of(os, "b", BORN, PropertiesReported({"os": {"name": "b"}}), tagged(os={"name": "c"})) == 2
    of_module = Property(("tags", "lens"), "m")
    events = (BORN, ModuleCreated("m"), ("d/m", tagged(lens="wide")), tagged(lens="tele"), ModuleCreated("n"))
    assert last_change_of(of_module, "wide", *events) == 3
    assert last_change_of(of_module, ABSENT, *events, ModuleDeleted("m"), ModuleCreated("m")) == 6
    updated = (BORN, DeviceUpdated(edge=True, enabled=False), DeviceUpdated(edge=False, enabled=False))
    no: Any = False
    assert (last_change_of(ENABLED, no, *updated), last_change_of(EDGE, no, *updated)) == (2, 3)


_names = st.sampled_from(["a", "b", None, {"x": 1}, {"x": None}, 1, True])
_patches = st.fixed_dictionaries({}, optional={"site": _names, "floor": _names})
_events = st.one_of(
    st.builds(lambda tags: TwinPatched(tags=tags), _patches),
    st.builds(
        lambda tags: TwinReplaced({name: value for name, value in tags.items() if value in ("a", 1)}, {}), _patches
    ),
    st.just(PropertiesReported({"site": "a"})),
)


@given(st.lists(_events, max_size=12))
def test_from_its_last_change_on_the_value_is_the_same_and_just_before_it_was_not(events: list[DeviceEvent]) -> None:
    for one in (SITE, Property(("tags", "site", "x"))):
        values, document = [], None
        for envelope in envelopes(BORN, *events):
            document = evolve_device(document, envelope.event, version=envelope.version, at=envelope.at)
            values.append(_typed(one, document))
        position = last_change_of(one, values[-1][1], BORN, *events)
        assert position is not None
        assert len({repr(value) for value in values[position - 1 :]}) == 1
        assert position == 1 or repr(values[position - 2]) != repr(values[-1])


def _typed(one: Property, document: DeviceDocument) -> tuple[str, Any]:
    value: Any = value_at(one.path, twin_row("d", section(document.tags), {}))
    if value is UNDEFINED:
        return "absent", ABSENT
    return type(value).__name__, {} if isinstance(value, dict) else value
