"""given(facts).when(command).then(fact), or .refused(error), on one device and one of its modules."""

from typing import Any, TypeVar

import pytest

from events.device.commands import DeviceCommand
from events.device.decider import check, decide
from events.device.facts import DeviceFact, DeviceRegistered
from events.device.state import DeviceDocument, ModuleDocument, current_module, evolve_device, evolve_module

E = TypeVar("E", bound=Exception)

DEVICE = "edge-1"


def device(*facts: DeviceFact) -> DeviceDocument:
    """The device after some facts of its own subject, one every second."""
    document = None
    for number, fact in enumerate(facts, start=1):
        document = evolve_device(document, fact, version=number, at=1000 * number)
    assert document is not None
    return document


def module(*facts: DeviceFact, of: DeviceDocument | None = None) -> ModuleDocument | None:
    """A module after some facts of its own subject; its device has just joined, if none is given."""
    of = of or device(DeviceRegistered())
    document = None
    for number, fact in enumerate(facts, start=1):
        document = evolve_module(current_module(document, of), fact, version=number, at=1000 * number)
    return document


class When:
    def __init__(self, of: DeviceDocument | None, mine: ModuleDocument | None, command: DeviceCommand) -> None:
        self._device, self._module, self._command = of, mine, command

    def _decide(self) -> DeviceFact | None:
        check(self._command)
        return decide(self._command, self._device, self._module)

    def then(self, fact: DeviceFact) -> None:
        assert self._decide() == fact

    def changes_nothing(self) -> None:
        assert self._decide() is None

    def refused(self, error: type[E], *named: Any) -> E:
        with pytest.raises(error) as caught:
            self._decide()
        for name in named:
            assert str(name) in str(caught.value)
        return caught.value


class Given:
    def __init__(self, *facts: DeviceFact) -> None:
        self._device = device(*facts) if facts else None
        self._module: ModuleDocument | None = None

    def with_module(self, *facts: DeviceFact) -> "Given":
        self._module = module(*facts, of=self._device)
        return self

    def when(self, command: DeviceCommand) -> When:
        return When(self._device, self._module, command)


given = Given
