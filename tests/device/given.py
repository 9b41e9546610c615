"""given(events).when(command).then(event), or .refused(error), on one device and one of its modules."""

from typing import Any, TypeVar

import pytest

from events.device.commands import DeviceCommand
from events.device.decider import check, decide
from events.device.events import DeviceEvent, DeviceRegistered
from events.device.state import DeviceDocument, ModuleDocument, current_module, evolve_device, evolve_twin

E = TypeVar("E", bound=Exception)

DEVICE = "edge-1"


def device(*events: DeviceEvent) -> DeviceDocument:
    """The device after some events of its own subject, one every second."""
    document = None
    for number, event in enumerate(events, start=1):
        document = evolve_device(document, event, version=number, at=1000 * number)
    assert document is not None
    return document


def module(*events: DeviceEvent, of: DeviceDocument | None = None) -> ModuleDocument | None:
    """A module after some events of its own subject; its device has just joined, if none is given."""
    of = of or device(DeviceRegistered())
    document = None
    for number, event in enumerate(events, start=1):
        document = evolve_twin(current_module(document, of), event, version=number, at=1000 * number)
    return document


class When:
    def __init__(self, of: DeviceDocument | None, mine: ModuleDocument | None, command: DeviceCommand) -> None:
        self._device, self._module, self._command = of, mine, command

    def _decide(self) -> DeviceEvent | None:
        check(self._command)
        return decide(self._command, self._device, self._module)

    def then(self, event: DeviceEvent) -> None:
        assert self._decide() == event

    def changes_nothing(self) -> None:
        assert self._decide() is None

    def refused(self, error: type[E], *named: Any) -> E:
        with pytest.raises(error) as caught:
            self._decide()
        for name in named:
            assert str(name) in str(caught.value)
        return caught.value


class Given:
    def __init__(self, *events: DeviceEvent) -> None:
        self._device = device(*events) if events else None
        self._module: ModuleDocument | None = None

    def with_module(self, *events: DeviceEvent) -> "Given":
        self._module = module(*events, of=self._device)
        return self

    def when(self, command: DeviceCommand) -> When:
        return When(self._device, self._module, command)


given = Given
