"""The event that set each property to its current value, found by reading events backwards."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from events.device import events
from events.envelope import Envelope

ABSENT: Final = object()
"""The value of a property that does not exist."""

_UNTOUCHED: Final = object()


class Property(msgspec.Struct, frozen=True):
    """A property of a device (`module` empty) or of one of its modules.

    `path` begins with `tags` or `reported`; EDGE and ENABLED are properties of the device's identity.
    """

    path: tuple[str, ...]
    module: str = ""


EDGE = Property(("edge",))
ENABLED = Property(("enabled",))


class LastChanges:
    """Reads the events of a device and its modules, newest first; `by_property` has the last change of each property."""

    def __init__(self, device_id: str, values: Mapping[Property, Any]) -> None:
        """`values` are properties with their current values, ABSENT for a missing property."""
        self._device_id = device_id
        self._open = dict(values)
        self.by_property: dict[Property, Envelope[Any]] = {}

    @property
    def is_done(self) -> bool:
        """Whether older events cannot change the result."""
        return not self._open

    def note(self, envelope: Envelope[Any]) -> None:
        """Read the next older event."""
        module = envelope.subject[len(self._device_id) + 1 :]
        for prop in list(self._open):
            after = _after(envelope.event, prop, module)
            if after is _UNTOUCHED:
                continue
            # An older event with the same value is the earlier one since which it holds; one with another value ends the search.
            if _same(after, self._open[prop]) or prop not in self.by_property:
                self.by_property[prop] = envelope
            if isinstance(envelope.event, events.DeviceRegistered) or not _same(after, self._open[prop]):
                del self._open[prop]


def _after(event: events.DeviceEvent, prop: Property, module: str) -> object:
    """The value that a property has after an event, or _UNTOUCHED; `module` is the module that the event is about."""
    if isinstance(event, events.DeviceRegistered):
        return {EDGE: event.edge, ENABLED: event.enabled}.get(prop, ABSENT)
    if prop in {EDGE, ENABLED}:
        if not isinstance(event, events.DeviceUpdated):
            return _UNTOUCHED
        return event.edge if prop == EDGE else event.enabled
    # A module starts and ends with an empty twin.
    if isinstance(event, events.ModuleCreated | events.ModuleDeleted):
        return ABSENT if prop.module == event.module_id else _UNTOUCHED
    if module != prop.module:
        return _UNTOUCHED
    section, *path = prop.path
    match event:
        case events.TwinPatched(tags=tags) if tags is not None and section == "tags":
            return _patched(tags, path)
        case events.TwinReplaced(tags=tags) if section == "tags":
            value = _patched(tags, path)
            return ABSENT if value is _UNTOUCHED else value
        case events.PropertiesReported(patch) if section == "reported":
            return _patched(patch, path)
        case _:
            return _UNTOUCHED


def _patched(patch: Any, path: list[str]) -> object:
    node = patch
    for name in path:
        if not isinstance(node, dict):
            return ABSENT
        if name not in node:
            return _UNTOUCHED
        node = node[name]
    return ABSENT if node is None else node


def _same(before: object, after: object) -> bool:
    # A patch holds only parts of an object, so two objects cannot be compared and count as the same.
    if isinstance(before, dict) and isinstance(after, dict):
        return True
    # True == 1 in Python, though not in JSON.
    return isinstance(before, bool) == isinstance(after, bool) and before == after
