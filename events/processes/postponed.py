"""Repeated acts that can fail for a while: the first failure is logged, and so is the next success."""

from collections.abc import Callable

import structlog

logger = structlog.get_logger()


class Postponed:
    """Tracks which of a process's repeated acts fail at the moment, by name."""

    def __init__(self, *expected: type[Exception]) -> None:
        """`expected` are the errors after which the act is tried again later."""
        self._expected = expected
        self._failing: set[str] = set()

    def attempt(self, what: str, act: Callable[[], object]) -> None:
        """Run the act once; an expected error is logged and not raised, because the caller repeats the act anyway."""
        try:
            act()
        except self._expected as error:
            self.failed(what, error)
        else:
            self.worked(what)

    def failed(self, what: str, error: Exception) -> None:
        """Record a failure; only the first in a row is logged."""
        if what not in self._failing:
            self._failing.add(what)
            logger.warning("postponed", what=what, error=str(error) or type(error).__name__)

    def worked(self, what: str) -> None:
        """Record a success; only the first after a failure is logged."""
        if what in self._failing:
            self._failing.discard(what)
            logger.info("done again", what=what)
