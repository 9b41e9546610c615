"""What a write over HTTP costs the log: counted where the commands arrive."""

from typing import Any

import pytest

from events.device.commands import RegisterDevice
from events.log.connect import connect
from tests.api.serving import api
from tests.servers import redis_server
from tests.workers.system import System

pytestmark = pytest.mark.redis_server


def test_a_patch_of_tags_is_answered_after_two_round_trips() -> None:
    # The queue is on another server: workers are woken beside the answer, and not before it.
    with redis_server() as server, redis_server() as queue:
        system = System(server.url, queue_url=queue.url)
        system.do(RegisterDevice("edge-1"))
        with api(system) as http, connect(server.url).monitor() as monitor:
            http.patch("/twins/edge-1", json={"tags": {"n": 0}})
            system.log.client.echo("begin")
            for number in range(1, 6):
                twin = http.patch("/twins/edge-1", json={"tags": {"n": number}}).json()
                assert twin["tags"] == {"n": number}
            system.log.client.echo("end")
            commands = [words[0] for words in _until(monitor, "end", after="begin")]
        # Whether the twin can have anything from a configuration is asked with the document, and not waited for; then the append.
        patches = [commands[first : first + 3] for first in range(0, len(commands), 3)]
        assert [({*reads}, last) for *reads, last in patches] == [({"MGET", "HMGET"}, "EVALSHA")] * 5
        (stored,) = system.log.load(["edge-1"])
        assert (stored.head.version, twin["version"]) == (7, 8)
        system.close()


def _until(monitor: Any, last: str, *, after: str) -> list[list[str]]:
    """The words of the commands of clients between two echoes, without the commands that scripts call."""
    between: list[list[str]] | None = None
    for command in monitor.listen():
        if command["command"] == f"ECHO {after}":
            between = []
        elif command["command"] == f"ECHO {last}":
            assert between is not None
            return between
        elif between is not None and command["client_type"] != "lua":
            between.append(command["command"].split())
    raise AssertionError
