"""`/v1/stream`: everything that happens, in the order of each stream, from wherever one stopped."""

import asyncio
import contextlib
import itertools
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import structlog

from events import CreateDeployment, PatchTags, RegisterDevice, RetireDevice
from events.access.commands import RevokeToken
from events.log.errors import LogUnavailable
from events.notification.feed import Feed
from events.notification.positions import names_of
from events.projection_store.redis import projection_key
from events.settings import read_settings
from services.api.context.api_context import open_context
from services.api.context.followers import Followers
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.api.serving import Guarded, api, guarded, served
from tests.servers import eventually, redis_server
from tests.workers.system import PARTITIONS, System, base, deploy, fresh_system, join

pytestmark = [pytest.mark.redis_server, pytest.mark.full]

SOON = {"TWINFOLD_STREAM_HEARTBEAT_SECONDS": "0.2"}


class Told(NamedTuple):
    """An event, and the id to go on after."""

    event: Any
    id: str

    @property
    def location(self) -> str:
        return str(self.event["id"])

    @property
    def kind(self) -> str:
        return str(self.event["type"]).removeprefix("twinfold.")


def told(lines: Iterator[str]) -> Iterator[Told]:
    """Events of a stream, as a browser takes them."""
    data = ""
    for line in lines:
        if line.startswith("data: "):
            data = line.removeprefix("data: ")
        elif line.startswith("id: ") and data:
            yield Told(json.loads(data), line.removeprefix("id: "))
            data = ""


def everything(http: httpx.Client, *, after: str = "", **query: Any) -> list[Told]:
    """What there is, to the heads."""
    how = {"headers": {"Last-Event-ID": after}} if after else {}
    answer = http.get("/v1/stream", params={"follow": "false", "from": "start", **query}, **how)
    assert answer.is_success, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return list(told(iter(answer.text.splitlines())))


@contextlib.contextmanager
def following(http: httpx.Client, *, after: str = "", headers: Any = None, **query: Any) -> Iterator[Iterator[Told]]:
    given = {**(headers or {}), **({"Last-Event-ID": after} if after else {})}
    with http.stream("GET", "/v1/stream", params=query, headers=given) as answer:
        assert answer.status_code == 200, answer.read()
        yield told(answer.iter_lines())


def positions(some: list[Told]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for one in some:
        name, _, position = one.location.rpartition(":")
        found.setdefault(name, []).append(int(position))
    return found


def all_positions(system: System) -> dict[str, list[int]]:
    heads = Feed(system.log, system.projections).heads()
    return {name: list(range(1, head + 1)) for name, head in zip(names_of(PARTITIONS), heads, strict=True) if head}


def fill(system: System) -> None:
    system.do(*itertools.chain.from_iterable(join(f"d{number}", site="north") for number in range(6)))
    system.do(deploy("base", base("m"), "tags.site = 'north'"), deploy("other", base("m"), ""))


@pytest.fixture(scope="module")
def own_redis() -> Iterator[EmbeddedRedis]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def running(own_redis: EmbeddedRedis) -> Iterator[tuple[System, httpx.Client]]:
    with served(own_redis) as both:
        fill(both[0])
        yield both


@pytest.fixture
def serving(running: tuple[System, httpx.Client]) -> tuple[System, httpx.Client]:
    running[0].settle()
    return running


def test_every_event_and_assignment_change_is_told_once_and_in_the_order_of_its_stream(
    serving: tuple[System, httpx.Client],
) -> None:
    system, http = serving
    received = everything(http)
    assert positions(received) == all_positions(system)
    first = received[0].event
    assert (first["type"], first["id"], first["source"]) == (
        "twinfold.LogInitialised",
        "fleet:1",
        "/twinfold/test/fleet",
    )
    patched = next(
        message.event for message in received if message.kind == "TwinPatched" and message.event["subject"] == "d1"
    )
    assert patched["data"] == {"tags": {"site": "north"}, "desired": None}
    assert (patched["specversion"], patched["datacontenttype"]) == ("1.0", "application/json")
    assert (patched["by"], patched["version"]) == ("user:ada", 2)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", patched["time"])
    assignment_changes = [message.event for message in received if message.kind == "AssignmentChange"]
    assert all(
        message["source"] == f"/twinfold/test/{message['subject']}/assignments" for message in assignment_changes
    )
    moves = [move for message in assignment_changes for move in message["data"]["moves"]]
    assert sorted(name for move in moves for name in move["devices"]) == [f"d{number}" for number in range(6)]
    assert {tuple(move["after"]["layers"]) for move in moves} == {("base",)}


def test_one_may_go_on_from_any_event_and_misses_and_repeats_nothing(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    some = everything(http)
    for number in (0, 1, len(some) // 2, len(some) - 2, len(some) - 1):
        rest = everything(http, after=some[number].id)
        assert positions(some[: number + 1] + rest) == all_positions(system)
        again = http.get("/v1/stream", params={"follow": "false", "after": some[number].id})
        assert list(told(iter(again.text.splitlines()))) == rest
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,60}", one.id) for one in some)


def test_whoever_follows_is_told_as_it_happens_and_goes_on_after_a_restart_of_the_api(
    shared_redis: EmbeddedRedis,
) -> None:
    with fresh_system(shared_redis) as system, system.process("-m", "workers.pool"):
        seen: list[Told] = []
        with contextlib.ExitStack() as stack:
            with api(system) as http:
                other = stack.enter_context(httpx.Client(base_url=http.base_url, timeout=waiting.seconds()))
                events = stack.enter_context(following(other, **{"from": "start"}))
                fill(system)
                seen += itertools.islice(events, 5)
            # The process has ended, and with it the stream, somewhere.
            seen += events
        fill_more = [PatchTags("d1", {"site": "south"}), RetireDevice("d2")]
        system.do(*fill_more)
        system.settle()
        with api(system) as http, following(http, after=seen[-1].id) as events:
            wanted = all_positions(system)
            while positions(seen) != wanted:
                seen.append(next(events))
        assert positions(seen) == all_positions(system)


def test_without_an_id_one_begins_at_the_heads_and_the_first_id_comes_at_once(
    serving: tuple[System, httpx.Client],
) -> None:
    system, http = serving
    with http.stream("GET", "/v1/stream") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "retry: 1000"
        begun = next(lines).removeprefix("id: ")
        system.do(PatchTags("d1", {"floor": 1}))
        assert next(told(lines)).event["subject"] == "d1"
    assert everything(http, after=begun)[0].event["data"]["tags"] == {"floor": 1}


def test_filters_choose_by_kind_deployment_and_device(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(RetireDevice("d3"), RegisterDevice("d3"), PatchTags("d3", {"site": "north"}))
    system.settle()
    assert {message.kind for message in everything(http, kind=["TwinPatched", "AssignmentChange"])} == {
        "TwinPatched",
        "AssignmentChange",
    }
    of_deployment = everything(http, deployment="base")
    assert {message.kind for message in of_deployment} == {"DeploymentCreated", "AssignmentChange"}
    assert {message.event["subject"] for message in of_deployment if message.kind != "AssignmentChange"} == {"base"}
    of_device = everything(http, device="d3")
    assert [message.kind for message in of_device].count("DeviceRegistered") == 2
    # As what it was before it left, and as what it is now; that may have been applied in one step, or in several.
    assignment_changes = [message for message in of_device if message.kind == "AssignmentChange"]
    assert len(assignment_changes) >= 2
    assert all("d3" in str(message.event["data"]["moves"]) for message in assignment_changes)
    assert everything(http, device="d3", kind="DeploymentCreated") == []
    both = everything(http, device="d3", deployment="other")
    assert len(both) == len(of_device) + 1


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"kind": "Nothing"}, "kind: there is no 'Nothing'; there are AdmissionChanged"),
        ({"kind": ["AssignmentChange", "assignmentChange"]}, "kind: there is no 'assignmentChange'"),
        ({"after": "nonsense"}, "the id to continue after"),
        ({"after": "A" * 5000}, "the id to continue after"),
        ({"from": "yesterday"}, "from"),
        ({"follow": "perhaps"}, "follow"),
        ({"device": ["d"] * 101}, "device"),
    ],
)
def test_bad_input_is_refused_by_element_and_rule(
    serving: tuple[System, httpx.Client], query: dict[str, Any], said: str
) -> None:
    _, http = serving
    answer = http.get("/v1/stream", params=query)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "ArgumentInvalid"
    assert said in answer.json()["error"]["message"]


def test_silence_is_broken_by_heartbeats_that_say_how_far_one_has_come(shared_redis: EmbeddedRedis) -> None:
    with (
        fresh_system(shared_redis) as system,
        api(system, **SOON) as http,
        http.stream("GET", "/v1/stream", params={"kind": "DeploymentDeleted"}) as answer,
    ):
        lines = answer.iter_lines()
        system.do(*join("d"))
        heads = Feed(system.log, system.projections).heads()
        wanted = everything(http)[-1].id
        assert heads
        for line in lines:
            if line == ":" and next(lines) == f"id: {wanted}":
                break


@pytest.mark.full
def test_a_slow_reader_gets_all_in_order_and_holds_up_nobody(shared_redis: EmbeddedRedis) -> None:
    with fresh_system(shared_redis) as system, api(system) as http:
        host, port = http.base_url.host, http.base_url.port
        assert port is not None
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.settimeout(waiting.seconds())
            slow.connect((host, port))
            slow.sendall(b"GET /v1/stream?from=start HTTP/1.1\r\nhost: localhost\r\n\r\n")
            system.do(RegisterDevice("d"), *(PatchTags("d", {"text": f"{number:04}" * 800}) for number in range(1500)))
            with following(http, **{"from": "start"}) as events:
                quick = list(itertools.islice(events, 1502))
            got = bytearray()
            while not re.search(rb'"id":"p\d\d:1501"', got[-20_000:]):
                part = slow.recv(1 << 20)
                assert part
                got += part
        order = [int(found) for found in re.findall(rb'"id":"p\d\d:(\d+)"', got)]
        assert order == list(range(1, 1502))
        assert len(quick) == 1502


@pytest.mark.full
def test_many_clients_share_one_look_at_the_log(shared_redis: EmbeddedRedis) -> None:
    clients, events = 200, 50

    async def follow(url: httpx.URL, begun: asyncio.Semaphore) -> int:
        limits = httpx.Limits(max_connections=None)
        async with (
            httpx.AsyncClient(base_url=url, timeout=waiting.seconds(), limits=limits) as http,
            http.stream("GET", "/v1/stream", params={"kind": "TwinPatched"}) as answer,
        ):
            begun.release()
            seen = 0
            async for line in answer.aiter_lines():
                seen += line.startswith("data: ")
                if seen == events:
                    break
            return seen

    async def all_of_them(url: httpx.URL, write: Any) -> list[int]:
        begun = asyncio.Semaphore(0)
        tasks = [asyncio.create_task(follow(url, begun)) for _ in range(clients)]
        for _ in range(clients):
            await begun.acquire()
        await asyncio.to_thread(write)
        return await asyncio.gather(*tasks)

    with fresh_system(shared_redis) as system, api(system) as http:
        system.do(RegisterDevice("d"))

        def write() -> None:
            system.queue.config_resetstat()
            for number in range(events):
                system.do(PatchTags("d", {"n": number}))

        assert asyncio.run(all_of_them(http.base_url, write)) == [events] * clients
        reads = system.queue.info("commandstats")["cmdstat_xrange"]["calls"]
        # Each of them reading each event for itself would be two hundred times fifty.
        assert reads < clients * events / 10
        eventually(lambda: "twinfold_streams 0.0" in http.get("/metrics").text, what="nobody follows any more")


@pytest.mark.full
def test_a_stream_ends_when_the_api_does(shared_redis: EmbeddedRedis) -> None:
    with fresh_system(shared_redis) as system, contextlib.ExitStack() as stack:
        with api(system) as http:
            other = stack.enter_context(httpx.Client(base_url=http.base_url, timeout=waiting.seconds()))
            streams = [stack.enter_context(other.stream("GET", "/v1/stream")) for _ in range(3)]
            lines = [one.iter_lines() for one in streams]
            assert [next(one) for one in lines] == ["retry: 1000"] * 3
        # With a proper end: of a stream that is cut off when the API has waited long enough, reading on would raise.
        assert [list(one)[2:] for one in lines] == [[]] * 3


@pytest.mark.full
def test_nothing_is_missed_while_it_cannot_be_told_who_is_allowed(shared_redis: EmbeddedRedis) -> None:
    with fresh_system(shared_redis) as system:
        system.do(*join("a"), *join("b"))
        followers = Followers(open_context(read_settings(redis_url=system.url)))
        asked = itertools.count()

        async def sometimes() -> bool:
            if next(asked) % 2 == 0:
                raise LogUnavailable("asked at a bad moment")
            return True

        async def follow() -> bytes:
            heads = followers.heads()
            begin = (0,) * len(heads)
            parts = followers.follow(begin, heads, lambda _one: True, still_allowed=sometimes, for_ever=False)
            return b"".join([part async for part in parts])

        text = asyncio.run(follow()).decode()
        assert positions(list(told(iter(text.splitlines())))) == all_positions(system)


def test_a_follower_goes_on_after_a_checkpoint_that_could_not_be_read(shared_redis: EmbeddedRedis) -> None:
    with fresh_system(shared_redis) as system, structlog.testing.capture_logs() as logged:
        context, checkpoint = open_context(read_settings(redis_url=system.url)), projection_key(0, "checkpoint")

        async def is_allowed() -> bool:
            return True

        async def follow(followers: Followers) -> bytes:
            heads = followers.heads()
            parts = followers.follow(heads, heads, lambda _: True, still_allowed=is_allowed, for_ever=True)
            await anext(parts)
            reading = asyncio.create_task(followers.run())
            system.log.client.set(checkpoint, "damaged")
            try:
                postponed = "following the log"
                await asyncio.to_thread(eventually, lambda: postponed in map(what_of, logged), what="a read fails")
                system.log.client.delete(checkpoint)
                system.do(*join("a"))
                part = asyncio.ensure_future(anext(part async for part in parts if b"data:" in part))
                await asyncio.wait((reading, part), return_when=asyncio.FIRST_COMPLETED)
                assert not reading.done()
                return await part
            finally:
                reading.cancel()

        assert b"DeviceRegistered" in asyncio.run(follow(Followers(context)))


def what_of(line: Any) -> str:
    return str(line.get("what"))


@pytest.fixture
def gate(shared_redis: EmbeddedRedis, tmp_path: Path) -> Iterator[Guarded]:
    with fresh_system(shared_redis) as system, guarded(system, tmp_path, **SOON) as serving:
        yield serving


def test_only_whoever_may_see_the_whole_fleet_follows_it(gate: Guarded) -> None:
    gate.register("d")
    for allowed in (gate.token("operate"), gate.token("admin"), gate.policy("iothubowner")):
        assert gate.http.get("/v1/stream", params={"follow": "false"}, headers=allowed).status_code == 200
    refused = (
        {},
        gate.token("read"),
        gate.token("operate", scope="tags.site = 'north'"),
        gate.policy("service"),
        gate.policy("registryReadWrite"),
        gate.policy("device"),
        gate.device("d"),
    )
    for headers in refused:
        assert gate.http.get("/v1/stream", params={"follow": "false"}, headers=headers).status_code == 401


def test_nobody_is_told_secrets_and_only_an_admin_who_comes_in(gate: Guarded) -> None:
    identity = gate.register("d")
    operate, admin = gate.token("operate"), gate.token("admin")
    keys = identity["authentication"]["symmetricKey"].values()
    query = {"follow": "false", "from": "start"}
    seen = gate.http.get("/v1/stream", params=query, headers=operate).text
    everybody = gate.http.get("/v1/stream", params=query, headers=admin).text
    for text in (seen, everybody):
        assert not any(key in text for key in keys)
        assert "$secret" not in text
        assert '"authentication":"***"' in text
    assert "PolicyDefined" not in seen
    assert "TokenIssued" not in seen
    assert '"digest":"***"' in everybody
    asked = gate.http.get("/v1/stream", params={**query, "kind": "TokenIssued"}, headers=operate)
    assert asked.status_code == 401
    assert everything_of(gate, admin, kind="TokenIssued") == {"TokenIssued"}


def everything_of(gate: Guarded, headers: dict[str, str], **query: str) -> set[str]:
    answer = gate.http.get("/v1/stream", params={"follow": "false", "from": "start", **query}, headers=headers)
    return {one.kind for one in told(iter(answer.text.splitlines()))}


def test_a_stream_ends_when_its_token_is_revoked(gate: Guarded) -> None:
    headers = gate.token("operate")
    token_id = headers["Authorization"].split("_")[1]
    with following(gate.http, headers=headers) as events:
        gate.producer.do(RegisterDevice("seen"))
        assert next(events).event["subject"] == "seen"
        gate.producer.do(RevokeToken(token_id))
        # Heartbeats come, and at the first after a second the door is closed.
        assert list(events) == []


def test_what_a_deployment_hides_is_hidden(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    content = base("m", env={"PASSWORD": {"value": {"$secret": "0" * 32}}})
    system.do(CreateDeployment("secretive", content, "*"))
    (created,) = (one for one in everything(http, deployment="secretive") if one.kind == "DeploymentCreated")
    assert "$secret" not in json.dumps(created.event)
    assert "***" in json.dumps(created.event)
