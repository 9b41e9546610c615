"""given(events).when(command).then(event), or .refused(error)."""

from typing import Any, TypeVar

import pytest

from events.deployment.commands import DeploymentCommand
from events.deployment.decider import check, decide
from events.deployment.events import DeploymentEvent
from events.deployment.state import DeploymentDocument, evolve

E = TypeVar("E", bound=Exception)


def replayed(*events: DeploymentEvent) -> DeploymentDocument | None:
    """The document after some events, one every second."""
    document = None
    for number, event in enumerate(events, start=1):
        document = evolve(document, event, version=number, at=1000 * number)
    return document


def document_of(*events: DeploymentEvent) -> DeploymentDocument:
    document = replayed(*events)
    assert document is not None
    return document


class When:
    def __init__(self, document: DeploymentDocument | None, command: DeploymentCommand) -> None:
        self._document = document
        self._command = command

    def _decide(self) -> DeploymentEvent | None:
        check(self._command)
        return decide(self._command, self._document)

    def then(self, event: DeploymentEvent) -> None:
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
    def __init__(self, *events: DeploymentEvent) -> None:
        self._document = replayed(*events)

    def when(self, command: DeploymentCommand) -> When:
        return When(self._document, command)


given = Given
