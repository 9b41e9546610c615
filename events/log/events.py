"""Events of the log itself. Their subject is `log`, in the fleet's stream."""

import msgspec

LOG_SUBJECT = "log"


class LogInitialised(msgspec.Struct, frozen=True, tag="LogInitialised", forbid_unknown_fields=True):
    """The first event of every log: its permanent id (`epoch`) and its number of partitions."""

    epoch: str
    partitions: int


class BlockResolved(msgspec.Struct, frozen=True, tag="BlockResolved", forbid_unknown_fields=True):
    """An operator decided to skip the event at a position of a partition's stream or of the fleet's (-1)."""

    stream: int
    position: int
    reason: str


class BlockRetried(msgspec.Struct, frozen=True, tag="BlockRetried", forbid_unknown_fields=True):
    """An operator asked for a retry of the event at a position, after an upgrade or a repair."""

    stream: int
    position: int
    reason: str


class SecretsErased(msgspec.Struct, frozen=True, tag="SecretsErased", forbid_unknown_fields=True):
    """An operator had secrets destroyed; `of` is their owner: `device:edge1`, `deployment:north` or `webhook:siem`."""

    of: str
    ids: tuple[str, ...]
    reason: str


LogEvent = LogInitialised | BlockResolved | BlockRetried | SecretsErased
