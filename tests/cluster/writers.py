"""Writers and readers that go on while a cluster changes under them, and what they were told."""

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx
from redis import Redis

from events import PatchTags, Producer
from events.envelope import Principal
from events.log.connect import connect
from events.log.errors import LogUnavailable
from events.log.redis import RedisLog
from events.log.wake import Waker
from events.producer.keys import CommandKey
from tests.servers import eventually
from tests.workers.system import PARTITIONS, System

RETRYABLE = {429, 503}


class Writers:
    """Threads that tag devices and read them; each tag is a number that rises by one."""

    def __init__(
        self, system: System, http: httpx.Client, devices: list[str], *, after: "Writers | None" = None
    ) -> None:
        """`after` are writers that have ended, whose numbers these continue."""
        self._after = {} if after is None else after.acknowledged
        self._system, self._http, self._devices = system, http, devices
        self._stopping = threading.Event()
        works = (self._produce, self._call, self._read)
        self._threads = [threading.Thread(target=self._guarded, args=(work,)) for work in works]
        self.acknowledged: dict[tuple[str, str], int] = dict(self._after)
        """The number of the last acknowledged write, by device and tag."""
        self.counts: Counter[str] = Counter()
        """Answers and retryable errors by kind."""
        self.errors: list[BaseException] = []
        """Everything else that reached a caller."""

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def go_on(self) -> None:
        """Wait until writes of both kinds that began after this call were acknowledged."""
        produced, called = self.counts["produced"], self.counts["called"]
        eventually(
            lambda: (
                self.errors
                or (self.counts["produced"] > produced + 2 * len(self._devices) and self.counts["called"] > called + 2)
            ),
            what="writes are acknowledged",
        )
        assert not self.errors

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - the test shows it
            self.errors.append(error)

    def _produce(self) -> None:
        log = RedisLog(connect(self._system.url), partitions=PARTITIONS, epoch=self._system.log.epoch)
        queue = Redis.from_url(self._system.queue_url)
        number = self._after.get((self._devices[0], "produced"), 0)
        while not self._stopping.is_set():
            number += 1
            # The key makes a repeat after a lost answer the same request, as a caller's Idempotency-Key does.
            producer = Producer(
                log, by=Principal.parse("user:bea"), waker=Waker(queue), key=CommandKey(f"produced:{number}")
            )
            commands = [PatchTags(device_id, {"produced": number}) for device_id in self._devices]
            while True:
                try:
                    producer.submit(commands).raise_if_refused()
                    break
                except LogUnavailable:
                    self.counts["producer retried"] += 1
            self.counts["produced"] += len(commands)
            self.acknowledged.update({(device_id, "produced"): number for device_id in self._devices})
        log.client.close()
        queue.close()

    def _call(self) -> None:
        number = self._after.get((self._devices[0], "called"), 0)
        while not self._stopping.is_set():
            number += 1
            for device_id in self._devices[::2]:
                while True:
                    answer = self._http.patch(
                        f"/twins/{device_id}",
                        json={"tags": {"called": number}},
                        headers={"Idempotency-Key": f"called-{device_id}-{number}"},
                    )
                    if answer.status_code not in RETRYABLE:
                        break
                    self.counts[f"PATCH {answer.status_code}"] += 1
                assert answer.is_success, answer.text
                self.counts["called"] += 1
                self.acknowledged[device_id, "called"] = number

    def _read(self) -> None:
        paths = ["/v1/deployments", "/v1/deployments/all", "/v1/devices", "/readyz"]
        paths += [f"/v1/devices/{self._devices[0]}/explain", *(f"/twins/{name}" for name in self._devices[:4])]
        while not self._stopping.is_set():
            for path in paths:
                answer = self._http.get(path)
                if answer.status_code in RETRYABLE:
                    self.counts[f"GET {answer.status_code}"] += 1
                    continue
                assert answer.is_success, (path, answer.text)
                self.counts["read"] += 1


def assert_retryable_at_most(said: Path) -> None:
    """No process met an error but that Redis was not available, for which a worker's job may end: it is woken again."""
    text = said.read_text()
    assert [line for line in text.splitlines() if "Traceback" in line and "LogUnavailable" not in line] == []


def assert_nothing_is_lost_or_doubled(system: System, writers: Writers) -> None:
    """Every acknowledged write is in the log once, in order, and every document has the newest one."""
    numbers: dict[tuple[str, str], list[int]] = {}
    for stream in range(PARTITIONS):
        after = 0
        while envelopes := system.log.read(stream, after=after, limit=1000):
            after = envelopes[-1].position
            for envelope in envelopes:
                tags: dict[str, Any] = getattr(envelope.event, "tags", None) or {}
                for tag in tags.keys() & {"produced", "called"}:
                    numbers.setdefault((envelope.subject, tag), []).append(tags[tag])
    for (device_id, tag), newest in writers.acknowledged.items():
        written = numbers[device_id, tag]
        assert written == list(range(1, len(written) + 1)), (device_id, tag)
        assert len(written) >= newest, (device_id, tag)
