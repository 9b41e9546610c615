"""The times that a judgement depends on."""


class Deadlines:
    """Compares times with the time of a judgement, and records the next one: until then the same inputs give the same result.

    That holds as long as the planner asks `is_reached` for everything that it decides by the time.
    """

    def __init__(self, now: int) -> None:
        """`now` is the time of the judgement in milliseconds."""
        self.now = now
        self.next: int | None = None
        """The earliest time that was compared and is not reached yet (milliseconds); `None` if there is none."""

    def is_reached(self, at: int) -> bool:
        """Whether a time (milliseconds) has come."""
        if at <= self.now:
            return True
        if self.next is None or at < self.next:
            self.next = at
        return False
