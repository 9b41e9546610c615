"""Repeated acts that can fail for a while: the first failure is logged, and so is the next success."""

import contextlib
from collections.abc import Iterator

import structlog

logger = structlog.get_logger()


class Postponed:
    """Tracks which of a process's repeated acts fail at the moment, by name."""

    def __init__(self, *expected: type[Exception]) -> None:
        """`expected` are the errors after which the act is tried again later."""
        self._expected, self._failing = expected, set[str]()

    @contextlib.contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """An expected error of the block is logged and not raised, because the caller repeats the act anyway."""
        try:
            yield
        except self._expected as error:
            if what not in self._failing:
                self._failing.add(what)
                logger.warning("postponed", what=what, error=str(error) or type(error).__name__)
        else:
            if what in self._failing:
                self._failing.discard(what)
                logger.info("done again", what=what)
