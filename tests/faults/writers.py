"""Callers that write while everything around them dies, and remember what was acknowledged."""

import contextlib
import threading
from collections.abc import Callable

import httpx

from tests import waiting

_PAUSE_SECONDS = 0.02
_AWAY = {502, 503, 504}


class Writer(threading.Thread):
    """Sets one tag of one device to 1, 2, 3, …, each value once, and registers a device now and then.

    A write without an answer, or with one that says *not now*, may stand in the log or not; the next value follows either way.
    """

    def __init__(self, device_id: str, make_client: Callable[[], httpx.Client], stopping: threading.Event) -> None:
        super().__init__(name=device_id, daemon=True)
        self.device_id = device_id
        self._make_client, self._stopping = make_client, stopping
        self.sent = 0
        self.acknowledged: set[int] = set()
        self.registered: set[str] = set()
        self.refused: list[str] = []
        """Answers that no fault excuses."""

    def run(self) -> None:
        """Write until told to stop."""
        with self._make_client() as http:
            waiting.eventually(lambda: self._is_registered(http, self.device_id), what="the writer's device is there")
            while not self._stopping.wait(_PAUSE_SECONDS):
                self.sent += 1
                if self._is_done(http, "PATCH", f"/twins/{self.device_id}", {"tags": {"n": self.sent}}):
                    self.acknowledged.add(self.sent)
                if self.sent % 20 == 0:
                    self._is_registered(http, f"{self.device_id}-{self.sent}")

    def _is_registered(self, http: httpx.Client, device_id: str) -> bool:
        body = {"deviceId": device_id, "capabilities": {"iotEdge": True}}
        if self._is_done(http, "PUT", f"/devices/{device_id}", body, fine={409}):
            self.registered.add(device_id)
            return True
        return False

    def _is_done(
        self, http: httpx.Client, method: str, path: str, body: object, fine: frozenset[int] | set[int] = frozenset()
    ) -> bool:
        with contextlib.suppress(httpx.TransportError):
            answer = http.request(method, path, json=body)
            if answer.is_success or answer.status_code in fine:
                return True
            if answer.status_code not in _AWAY:
                self.refused.append(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return False
