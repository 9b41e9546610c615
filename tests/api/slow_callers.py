"""Callers whose input is as slow as it can be made, in a process of their own: `python -m tests.api.slow_callers` (JSON on stdin)."""

import json
import sys
import threading
from typing import Any

import httpx


def main() -> None:
    """Send one request over and over from several connections until standard input ends; then print each status once."""
    order: dict[str, Any] = json.loads(sys.stdin.readline())
    ended, statuses = threading.Event(), set[int]()
    callers = [threading.Thread(target=_call, args=(order, ended, statuses)) for _ in range(order["connections"])]
    for caller in callers:
        caller.start()
    sys.stdin.read()
    ended.set()
    for caller in callers:
        caller.join()
    sys.stdout.write(json.dumps(sorted(statuses)))


def _call(order: dict[str, Any], ended: threading.Event, statuses: set[int]) -> None:
    content = order["content"].encode() * order["times"]
    with httpx.Client(base_url=order["url"], headers=order["headers"], timeout=300) as client:
        while not ended.is_set():
            try:
                answer = client.request(order["method"], order["path"], content=content or None)
            except httpx.TransportError:
                continue  # A refused body may be cut off before all of it was sent.
            statuses.add(answer.status_code)


if __name__ == "__main__":
    main()
