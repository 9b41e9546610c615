"""Why a partition stops applying events."""


class CannotApply(Exception):
    """An event does not follow from the events before it: twinfold did not write the log, or the log is damaged.

    `fleet`: the position is in the fleet's stream and not in the partition's own.
    """

    def __init__(self, position: int, subject: str, why: str, *, fleet: bool = False) -> None:
        super().__init__(f"position {position}, {subject}: {why}")
        self.position, self.subject, self.why, self.fleet = position, subject, why, fleet
