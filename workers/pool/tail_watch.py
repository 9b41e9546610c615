"""Reports events that the log acknowledged and has no longer."""

from typing import Any, cast

import structlog

from events.log.connect import answering
from events.log.errors import LogLostItsTail
from events.log.keys import FLEET, key, name
from events.log.redis import RedisLog
from events.projection_store.port import ProjectionStore

TAIL_SECONDS = 1.0
_HEADS = key(FLEET, "heads-noted")

logger = structlog.get_logger()


class TailWatch:
    """Notes the head of every stream where the loss of the stream's tail does not take the note along."""

    # On a cluster, a failover takes a partition's events and its projections back together, as they share a slot. They fit
    # each other, so no worker that loads them can see that events are missing. The notes on partitions are in the fleet's slot;
    # the notes on the fleet's stream are the checkpoints of the partitions.

    def __init__(self, log: RedisLog, projections: ProjectionStore) -> None:
        self._log, self._projections = log, projections

    def once(self) -> list[LogLostItsTail]:
        """Compare every head with its note, log each loss as an error, and note the heads; returns the losses.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        partitions = range(self._log.partitions)
        # The notes first: a head that is read later is the same or a later one, whatever other pools note meanwhile.
        with answering():
            noted = cast("dict[bytes, bytes]", self._log.client.hgetall(_HEADS))
        expected = {number: int(noted.get(name(number).encode(), 0)) for number in partitions}
        expected[FLEET] = max(
            checkpoint.vector.fleet for checkpoint, _ in self._projections.states(partitions).values()
        )
        heads = self._log.heads()
        losses = [
            LogLostItsTail(name(stream), expected=position, actual=heads[stream])
            for stream, position in expected.items()
            if heads[stream] < position
        ]
        for loss in losses:
            logger.error("acknowledged events are lost", stream=loss.stream, expected=loss.expected, actual=loss.actual)
        changed = {name(number): heads[number] for number in partitions if heads[number] != expected[number]}
        if changed:
            with answering():
                self._log.client.hset(_HEADS, mapping=cast("dict[Any, Any]", changed))
        return losses
