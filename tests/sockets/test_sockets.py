"""The sockets that the API listens on."""

import os
import socket
from collections.abc import Iterator

import pytest

from events.settings import read_settings
from services.sockets import VARIABLE, handed_over, inherited, listening
from tests.api.serving import free_port


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with listening(read_settings(host="127.0.0.1", port=free_port())) as sockets:
        yield sockets[0]


def accepted_without_delay(listener: socket.socket) -> bool:
    with socket.create_connection(listener.getsockname()), listener.accept()[0] as connection:
        return bool(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


def test_no_write_of_an_answer_waits_for_the_acknowledgement_of_the_one_before(listener: socket.socket) -> None:
    assert accepted_without_delay(listener)


def test_nor_does_one_on_a_socket_that_was_handed_over(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, handed_over([listener])[VARIABLE])
    (socket_of_child,) = inherited()
    assert VARIABLE not in os.environ
    try:
        assert accepted_without_delay(socket_of_child)
    finally:
        socket_of_child.detach()
