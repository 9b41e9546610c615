"""What can be done to a connection: slow, endless, broken and too many requests hold up nobody."""

import contextlib
import json
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.api.raw import Raw, connect, head, rest, until
from tests.api.serving import Guarded, guarded
from tests.servers import eventually

pytestmark = [pytest.mark.redis_server, pytest.mark.usefixtures("unharmed"), pytest.mark.full]


def test_a_body_is_not_waited_for_before_it_is_known_who_sends_it(gate: Guarded) -> None:
    for path in ("/devices/x", "/v1/events", "/configurations/x"):
        with connect(gate) as wire:
            wire.sendall(head(gate, "PUT", path, {"Content-Length": "1000000", "Expect": "100-continue"}))
            assert Raw(until(wire, b"ExceptionMessage" if not path.startswith("/v1") else b"requestId")).status == 401


@pytest.mark.parametrize("path", ["/twins/victim", "/v1/events"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_slow_body_is_cut_off_and_holds_up_nobody(gate: Guarded, path: str, *, chunked: bool) -> None:
    method = "PATCH" if path.startswith("/twins") else "POST"
    length = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": "1000"}
    wires = [connect(gate) for _ in range(100)]
    for wire in wires:
        wire.sendall(head(gate, method, path, {**gate.policy(), **length, "Connection": "close"}))
        wire.sendall(b"1\r\n{\r\n" if chunked else b"{")
    assert gate.http.get("/twins/victim", headers=gate.policy()).status_code == 200
    for wire in wires:
        answer = Raw(rest(wire))
        assert (answer.status, answer.headers["iothub-errorcode"]) == (408, "RequestTimeout")
        wire.close()


@pytest.mark.parametrize("begun", [b"", b"GET /devices HT", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: "])
def test_a_connection_without_a_request_is_closed(gate: Guarded, begun: bytes) -> None:
    with connect(gate) as wire:
        wire.sendall(begun)
        assert rest(wire) == b""


def test_whoever_goes_on_sending_after_a_refusal_is_cut_off(gate: Guarded) -> None:
    with connect(gate) as wire:
        wire.sendall(head(gate, "PUT", "/devices/x", {"Content-Length": "1000000000"}))
        assert Raw(until(wire, b"ExceptionMessage")).status == 401
        wire.settimeout(0.05)

        def is_closed() -> bool:
            try:
                wire.sendall(b"x")
                return wire.recv(100) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        eventually(is_closed, what="the connection is closed")


@pytest.mark.parametrize("path", ["/twins/victim", "/v1/events", "/configurations/big"])
def test_a_body_that_is_too_large_is_refused(gate: Guarded, path: str) -> None:
    method = {"/twins/victim": "PATCH", "/v1/events": "POST"}.get(path, "PUT")
    with connect(gate) as wire:
        wire.sendall(head(gate, method, path, {**gate.policy(), "Content-Length": str(9 << 20), "Connection": "close"}))
        answer = Raw(rest(wire))
    assert (answer.status, answer.headers["iothub-errorcode"]) == (413, "MessageTooLarge")
    chunk = b'{"a": "' + b"x" * 65_529
    parts = (chunk for _ in range(9 << 4))
    try:
        told = gate.http.request(method, path, content=parts, headers=gate.policy())
    except httpx.TransportError:
        return  # It was closed before all was sent.
    assert told.status_code in {400, 413}


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_fault_of_ours(gate: Guarded) -> None:
    for method, path in (("PATCH", "/twins/victim"), ("POST", "/v1/events")):
        seen = gate.said().count('"status": 400')
        with connect(gate) as wire:
            wire.sendall(head(gate, method, path, {**gate.policy(), "Content-Length": "1000"}) + b"{")
        eventually(lambda seen=seen: gate.said().count('"status": 400') > seen, what="it is noted")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /devices HTTP/1.1\r\n" + b"X-A: b\r\n" * 20_000 + b"\r\n",
        b"GET /devices HTTP/1.1\r\nX-A: " + b"b" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /devices HTTP/1.1\r\n\r\n",
        b"GET /dev ices HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"GET /devices\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_in_our_words(gate: Guarded, sent: bytes) -> None:
    with connect(gate) as wire:
        with contextlib.suppress(OSError):  # It may be refused before all was sent.
            wire.sendall(sent)
        data = rest(wire)
    if data:
        answer = Raw(data)
        assert (answer.status, answer.headers["iothub-errorcode"]) == (400, "ArgumentInvalid")
        assert json.loads(answer.body)["Message"].startswith("ErrorCode:ArgumentInvalid;")


@pytest.mark.parametrize(
    "framing",
    [
        "HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        "HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5",
        "HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 0",
        "HTTP/1.0\r\nTransfer-Encoding: chunked",
        "HTTP/1.1\r\nTransfer-Encoding : chunked",
    ],
)
@pytest.mark.parametrize("path", ["/v1/events", "/healthz"])
def test_a_request_whose_end_can_be_found_in_two_ways_is_refused_and_ends_the_connection(
    gate: Guarded, framing: str, path: str
) -> None:
    version, _, headers = framing.partition("\r\n")
    hidden = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with connect(gate) as wire:
        wire.sendall(f"POST {path} {version}\r\nHost: x\r\n{headers}\r\n\r\n0\r\n\r\n{hidden}".encode())
        answer = Raw(rest(wire))
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert answer.body.count(b"ErrorCode") == 1


def test_the_refusal_of_two_lengths_names_both_headers(gate: Guarded) -> None:
    with connect(gate) as wire:
        both = {"Content-Length": "5", "Transfer-Encoding": "chunked"}
        wire.sendall(head(gate, "PATCH", "/twins/victim", {**gate.policy(), **both}) + b"0\r\n\r\n")
        answer = Raw(rest(wire))
    assert "Content-Length or Transfer-Encoding, not both" in json.loads(answer.body)["Message"]


GOOD = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n\r\n{hex}\r\n{body}\r\n0\r\n\r\n"


def statuses(gate: Guarded, sent: str) -> list[bytes]:
    """The statuses of all answers until the connection is closed."""
    with connect(gate) as wire:
        with contextlib.suppress(OSError):  # It may be refused before all was sent.
            wire.sendall(sent.encode())
        return re.findall(rb"HTTP/1.1 (\d{3}) ", rest(wire))


def test_a_malformed_request_behind_a_valid_one_is_refused_after_its_answer(gate: Guarded) -> None:
    assert statuses(gate, f"{GOOD}{GOOD}GET /dev ices HTTP/1.1\r\n\r\n") == [b"200", b"200", b"400"]


@pytest.mark.parametrize("end", ["0\r\nX-A: " + "b" * 300_000, "1;" + "b" * 300_000, "0\r\n" + "X-A: b\r\n" * 30_000])
def test_what_frames_a_body_is_limited_like_headers(gate: Guarded, end: str) -> None:
    # Without credentials the request is refused before its body; with them its handler waits for the rest.
    headers = {**gate.policy(), "Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    begun = head(gate, "PATCH", "/twins/victim", headers).decode()
    assert statuses(gate, f"{begun}{end}") in ([b"400"], [])


def test_fields_after_a_body_are_not_headers(gate: Guarded) -> None:
    headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    begun = head(gate, "PATCH", "/twins/victim", headers).decode()
    trailer = f"Authorization: {gate.policy()['Authorization']}"
    assert statuses(gate, f"{begun}2\r\n{{}}\r\n0\r\n{trailer}\r\n\r\n{GOOD}x\r\n\r\n")[0] == b"401"


@pytest.mark.parametrize("field", ["Connection: close", "Proxy-Connection: close", "connection: Upgrade, close"])
def test_a_field_after_a_body_does_not_hide_the_next_request(gate: Guarded, field: str) -> None:
    headers = {**gate.policy(), "Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    begun = head(gate, "PATCH", "/twins/victim?api-version=2021-04-12", headers).decode()
    # The connection ends, so that a client knows that its next request was not read.
    assert statuses(gate, f"{begun}2\r\n{{}}\r\n0\r\n{field}\r\n\r\n{GOOD}") == [b"400"]
    assert statuses(gate, f"{begun}2\r\n{{}}\r\n0\r\nX-A: close\r\n\r\n{GOOD}x\r\n\r\n") == [b"200", b"200", b"400"]


def test_a_request_for_another_protocol_is_answered_and_so_is_the_next(gate: Guarded) -> None:
    upgrade = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert statuses(gate, f"{upgrade}{GOOD}x\r\n\r\n") == [b"200", b"200", b"400"]


@pytest.mark.parametrize("framing", ["Content-Length: {length}\r\n\r\n{body}", CHUNKED])
@pytest.mark.parametrize("options", ["Upgrade", "close, upgrade", "Upgrade, HTTP2-Settings"])
def test_the_body_of_a_request_for_another_protocol_is_no_request(gate: Guarded, options: str, framing: str) -> None:
    upgrade = f"POST /healthz HTTP/1.1\r\nHost: x\r\nConnection: {options}\r\nUpgrade: h2c\r\n"
    sent = upgrade + framing.format(body=GOOD, length=len(GOOD), hex=f"{len(GOOD):x}")
    expected = [b"405"] if "close" in options else [b"405", b"200", b"400"]
    assert statuses(gate, f"{sent}{GOOD}x\r\n\r\n") == expected


def test_a_body_arrives_of_a_client_that_offers_another_protocol(gate: Guarded) -> None:
    headers = {**gate.policy(), "Content-Type": "application/json", "Connection": "Upgrade, close", "Upgrade": "h2c"}
    body = b'{"query": "SELECT deviceId FROM devices"}'
    with connect(gate) as wire:
        path, length = "/devices/query?api-version=2021-04-12", {"Content-Length": str(len(body))}
        wire.sendall(head(gate, "POST", path, headers | length) + body)
        assert Raw(rest(wire)).status == 200


def test_white_space_around_a_header_is_no_part_of_it(gate: Guarded) -> None:
    headers = {**gate.policy(), "Content-Type": "application/json", "If-Match": ' "*" \t', "Connection": "close "}
    headers |= {"X-HTTP-Method-Override": "PATCH ", "Idempotency-Key": "white-space\t", "Transfer-Encoding": "chunked "}
    with connect(gate) as wire:
        wire.sendall(head(gate, "POST", "/twins/victim?api-version=2021-04-12", headers) + b"2\r\n{}\r\n0\r\n\r\n")
        assert Raw(rest(wire)).status == 200


def test_a_client_of_http_1_0_gets_no_interim_answer(gate: Guarded) -> None:
    headers = {**gate.policy(), "Content-Type": "application/json", "Content-Length": "2", "Expect": "100-continue"}
    begun = head(gate, "PATCH", "/twins/victim", headers).decode().replace("HTTP/1.1", "HTTP/1.0")
    assert statuses(gate, f"{begun}{{}}") == [b"400"]  # It lacks the API version.


def test_a_stream_ends_with_its_connection_although_the_next_request_was_sent(gate: Guarded) -> None:
    def followers() -> list[str]:
        lines = gate.http.get("/metrics", headers=gate.policy()).text.splitlines()
        return [line for line in lines if line.startswith("twinfold_streams ")]

    with connect(gate) as wire:
        wire.sendall(head(gate, "GET", "/v1/stream", gate.policy()) + GOOD.encode())
        until(wire, b"retry")
        assert followers() == ["twinfold_streams 1.0"]
        # A reset, which is noticed at once: nothing is read of a connection whose next request waits.
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    eventually(lambda: followers() == ["twinfold_streams 0.0"], what="nobody follows")


@pytest.mark.parametrize("hosts", ["", "Host: a\r\nHost: b\r\n"])
def test_a_request_names_one_host(gate: Guarded, hosts: str) -> None:
    assert statuses(gate, f"GET /healthz HTTP/1.1\r\n{hosts}\r\n") == [b"400"]


def test_a_websocket_is_not_opened_past_the_gate(gate: Guarded) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "eA==",
    }
    with connect(gate) as wire:
        wire.sendall(head(gate, "GET", "/devices", upgrade))
        assert Raw(until(wire, b"ExceptionMessage")).status == 401


# -- how much


@pytest.fixture
def throttled(gate: Guarded, tmp_path: Path) -> Iterator[Guarded]:
    more = {"TWINFOLD_KEY_FILE": str(gate.directory / "master.key"), "TWINFOLD_REQUESTS_PER_MINUTE": "20"}
    with guarded(gate.system, tmp_path, **more) as serving:
        yield Guarded(serving.system, serving.http, gate.vault, gate.producer, tmp_path)


def test_who_asks_too_much_waits_and_nobody_else(throttled: Guarded) -> None:
    owner, reader = throttled.policy(), throttled.policy("registryRead")
    statuses = [throttled.http.get("/devices/victim", headers=owner).status_code for _ in range(40)]
    assert statuses[:20] == [200] * 20
    assert 429 in statuses[20:]
    answer = eventually_throttled(throttled, owner, "/devices/victim")
    assert answer.headers["iothub-errorcode"] == "ThrottlingException"
    assert "retry-after" not in answer.headers
    told = answer.json()
    assert told["errorCode"] == 429001
    assert told["Message"].startswith("ErrorCode:ThrottlingException;The request has been throttled. Wait ")
    assert told["Message"].endswith(" seconds and try again. Operation type: Read")
    own = eventually_throttled(throttled, owner, "/v1/devices")
    assert own.json()["error"]["code"] == "ThrottlingException"
    assert throttled.http.get("/devices/victim", headers=reader).status_code == 200
    assert throttled.http.get("/healthz").status_code == 200


def eventually_throttled(gate: Guarded, headers: dict[str, str], path: str) -> httpx.Response:
    answer = gate.http.get(path, headers=headers)
    while answer.status_code != 429:
        answer = gate.http.get(path, headers=headers)
    return answer


def test_who_guesses_waits_and_good_credentials_from_there_do_not(throttled: Guarded) -> None:
    guesses = [
        throttled.http.get("/devices", headers={"Authorization": f"Bearer twf_{number}_" + "A" * 43}).status_code
        for number in range(40)
    ]
    assert guesses[:20] == [401] * 20
    assert 429 in guesses[20:]
    assert throttled.http.get("/devices", headers=throttled.policy()).status_code == 200
