"""What cannot be done now is done later: that it cannot is logged once, and so is that it can again."""

from collections.abc import Callable

import structlog

logger = structlog.get_logger()


class Postponed:
    """Which of a process's repeated acts fail at the moment, by name."""

    def __init__(self, *expected: type[Exception]) -> None:
        """`expected` are the errors that say *not now*."""
        self._expected = expected
        self._failing: set[str] = set()

    def attempt(self, what: str, act: Callable[[], object]) -> None:
        """Do it once; an expected error means that the next time may do better."""
        try:
            act()
        except self._expected as error:
            self.failed(what, error)
        else:
            self.worked(what)

    def failed(self, what: str, error: Exception) -> None:
        """Note that it cannot be done now."""
        if what not in self._failing:
            self._failing.add(what)
            logger.warning("postponed", what=what, error=str(error) or type(error).__name__)

    def worked(self, what: str) -> None:
        """Note that it can be done."""
        if what in self._failing:
            self._failing.discard(what)
            logger.info("done again", what=what)
