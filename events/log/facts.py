"""What can happen to the log itself. Subject: `log`, in the fleet's stream."""

import msgspec


class LogInitialised(msgspec.Struct, frozen=True, tag="LogInitialised", forbid_unknown_fields=True):
    """The first fact of every log: its epoch and the number of partitions, fixed from here on."""

    epoch: str
    partitions: int


class BlockResolved(msgspec.Struct, frozen=True, tag="BlockResolved", forbid_unknown_fields=True):
    """An operator decided that a partition goes on past the fact it stopped at, leaving that fact out."""

    partition: int
    position: int
    reason: str


LogFact = LogInitialised | BlockResolved
