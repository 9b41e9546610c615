"""Why applying stops."""


class CannotApply(Exception):
    """An event does not follow from the ones before it: the log is not one that twinfold wrote, or is damaged.

    `fleet` says that the position is one of the fleet's stream, not of the partition's own.
    """

    def __init__(self, position: int, subject: str, why: str, *, fleet: bool = False) -> None:
        super().__init__(f"position {position}, {subject}: {why}")
        self.position, self.subject, self.why, self.fleet = position, subject, why, fleet
