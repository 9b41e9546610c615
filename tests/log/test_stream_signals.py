"""Signals that streams have grown, for a user who may not subscribe to them."""

from typing import Any, cast

import pytest
from redis.cluster import RedisCluster
from redis.exceptions import NoPermissionError

from events.log.stream_signals import StreamSignals


class Subscription:
    """A subscription that the server rejects; `is_slow`: its answer has not arrived yet for a read that does not wait."""

    def __init__(self, *, is_slow: bool) -> None:
        self.is_slow, self.is_closed = is_slow, False

    def psubscribe(self, pattern: str) -> None:
        assert not self.is_closed, pattern

    def get_message(self, *, timeout: float) -> dict[str, Any] | None:
        if self.is_slow and not timeout:
            return None
        raise NoPermissionError("this user has no permissions to access one of the channels")

    def close(self) -> None:
        self.is_closed = True


class Rejecting:
    """A client whose user may not subscribe."""

    def __init__(self, *, is_slow: bool) -> None:
        self.subscriptions: list[Subscription] = []
        self._is_slow = is_slow

    def pubsub(self) -> Subscription:
        self.subscriptions.append(Subscription(is_slow=self._is_slow))
        return self.subscriptions[-1]


@pytest.mark.parametrize("is_slow", [False, True])
def test_without_the_permission_to_subscribe_a_wait_takes_its_time_and_nothing_asks_again(*, is_slow: bool) -> None:
    client = Rejecting(is_slow=is_slow)
    signals = StreamSignals(cast("RedisCluster", client))
    for _ in range(3):
        signals.forget()
        signals.wait({b"{p01}:log"}, 0.001)
    assert [subscription.is_closed for subscription in client.subscriptions] == [True]
