"""What can happen to the log itself. Subject: `log`, in the fleet's stream."""

import msgspec

LOG_SUBJECT = "log"


class LogInitialised(msgspec.Struct, frozen=True, tag="LogInitialised", forbid_unknown_fields=True):
    """The first event of every log: its epoch and the number of partitions, fixed from here on."""

    epoch: str
    partitions: int


class BlockResolved(msgspec.Struct, frozen=True, tag="BlockResolved", forbid_unknown_fields=True):
    """An operator decided to leave out the event at a position of a stream, a partition's or the fleet's (-1)."""

    stream: int
    position: int
    reason: str


class BlockRetried(msgspec.Struct, frozen=True, tag="BlockRetried", forbid_unknown_fields=True):
    """An operator wants the event at a position looked at again: by another version, or as it was repaired."""

    stream: int
    position: int
    reason: str


class SecretsErased(msgspec.Struct, frozen=True, tag="SecretsErased", forbid_unknown_fields=True):
    """Somebody had secrets of something destroyed for good: `of` is `device:edge1`, `deployment:north` or `webhook:siem`."""

    of: str
    ids: tuple[str, ...]
    reason: str


LogEvent = LogInitialised | BlockResolved | BlockRetried | SecretsErased
