"""A system with an API and workers that may deliver to this machine, and try again soon."""

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx

from events.notification.deliveries import Deliveries, DeliveryProgress
from events.notification.feed import Feed
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.api.serving import api
from tests.servers import eventually
from tests.workers.system import System, fresh_system

PRIVATE = {
    "TWINFOLD_WEBHOOK_PRIVATE_TARGETS": "127.0.0.0/8",
    "TWINFOLD_WEBHOOK_RETRY_SECONDS": "0.05",
    "TWINFOLD_WEBHOOK_WORKERS": "1",
}


class Notifying:
    """A system, its API, and what is kept of its webhooks."""

    def __init__(self, system: System, http: httpx.Client, environment: dict[str, str]) -> None:
        self.system, self.http, self.environment = system, http, environment
        self.deliveries = Deliveries(system.log.client)
        self.feed = Feed(system.log, system.projections)

    def define(self, webhook_id: str = "siem", **body: Any) -> Any:
        """Make a webhook; answers it, with its secret."""
        answer = self.http.put(f"/v1/webhooks/{webhook_id}", json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def progress(self, webhook_id: str = "siem") -> DeliveryProgress | None:
        return self.deliveries.progress(webhook_id)

    def is_at_the_heads(self, webhook_id: str = "siem") -> bool:
        known = self.progress(webhook_id)
        return known is not None and known.positions == self.feed.heads()

    def settle(self, webhook_id: str = "siem") -> None:
        """Wait until the projections and the webhook are at the heads."""
        self.system.settle()
        eventually(lambda: self.is_at_the_heads(webhook_id), what="everything is delivered")

    @contextlib.contextmanager
    def pool(self, **environment: str) -> Iterator[Any]:
        """Workers, until the end of the block."""
        with self.system.process("-m", "workers.pool", **{**self.environment, **environment}) as process:
            yield process


@contextlib.contextmanager
def notifying(server: EmbeddedRedis, directory: Any, **environment: str) -> Iterator[Notifying]:
    """A system with an API; workers are the test's own affair."""
    limit = str(waiting.seconds(1.5))
    how = {**PRIVATE, "TWINFOLD_WEBHOOK_TIMEOUT_SECONDS": limit, "TWINFOLD_DATA_DIR": str(directory), **environment}
    with fresh_system(server) as system, api(system, **how) as http:
        yield Notifying(system, http, how)
