"""given(facts).when(command).then(fact), or .refused(error)."""

from typing import Any, TypeVar

import pytest

from events.deployment.commands import DeploymentCommand
from events.deployment.decider import check, decide
from events.deployment.facts import DeploymentFact
from events.deployment.state import DeploymentDocument, evolve

E = TypeVar("E", bound=Exception)


def folded(*facts: DeploymentFact) -> DeploymentDocument | None:
    """The document after some facts, one every second."""
    document = None
    for number, fact in enumerate(facts, start=1):
        document = evolve(document, fact, version=number, at=1000 * number)
    return document


def standing(*facts: DeploymentFact) -> DeploymentDocument:
    document = folded(*facts)
    assert document is not None
    return document


class When:
    def __init__(self, document: DeploymentDocument | None, command: DeploymentCommand) -> None:
        self._document = document
        self._command = command

    def _decide(self) -> DeploymentFact | None:
        check(self._command)
        return decide(self._command, self._document)

    def then(self, fact: DeploymentFact) -> None:
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
    def __init__(self, *facts: DeploymentFact) -> None:
        self._document = folded(*facts)

    def when(self, command: DeploymentCommand) -> When:
        return When(self._document, command)


given = Given
