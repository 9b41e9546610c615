"""The sockets that the API listens on: bound once, by the process that supervises it or by the API itself."""

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from events.settings import Settings

VARIABLE = "TWINFOLD_LISTENING"
"""In an API that `up` started: the descriptors of the sockets it serves, with commas."""

BACKLOG = 4096


class CannotListen(Exception):
    """A port or an address cannot be listened on; `flag` names what to change."""

    def __init__(self, location: str, why: str, *, flag: str) -> None:
        variable = f"TWINFOLD_{flag.removeprefix('--').upper()}"
        super().__init__(f"{location} {why}; choose another with {flag} ({variable})")
        self.location, self.why, self.flag = location, why, flag


@contextmanager
def listening(settings: Settings) -> Iterator[list[socket.socket]]:
    """Sockets on the host and port of the settings, one for each of its addresses; closed with the block.

    Raises:
        CannotListen: the port is in use, or the host is no address of this machine.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(_listen(settings, *address)) for address in _addresses(settings)]


def inherited() -> list[socket.socket]:
    """The sockets that `up` handed over; none where it did not start this process."""
    return [
        socket.socket(fileno=int(descriptor)) for descriptor in os.environ.pop(VARIABLE, "").split(",") if descriptor
    ]


def handed_over(sockets: Sequence[socket.socket]) -> dict[str, str]:
    """The variable that names the sockets to a child that inherits them."""
    return {VARIABLE: ",".join(str(listener.fileno()) for listener in sockets)}


def _addresses(settings: Settings) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    try:
        addresses = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except OSError as error:
        raise CannotListen(settings.host, f"is no address of this machine: {error.strerror}", flag="--host") from error
    return list(
        dict.fromkeys((family, (str(location[0]), int(location[1]))) for family, _, _, _, location in addresses)
    )


def _listen(settings: Settings, family: socket.AddressFamily, location: tuple[str, int]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A port whose last connections are not quite over may be listened on again.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it. Without it the second write of an answer waits for the client's delayed acknowledgement: asyncio
        # sees to this only where the protocol of the listening socket is given, and one connection had 21 answers a second.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family is socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(location)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _refusal(settings, location[0], error) from error
    return listener


def _refusal(settings: Settings, address: str, error: OSError) -> CannotListen:
    match error.errno:
        case errno.EADDRINUSE:
            return CannotListen(f"port {settings.port} of {address}", "is in use by another program", flag="--port")
        case errno.EACCES | errno.EPERM:
            return CannotListen(f"port {settings.port}", "is for privileged programs", flag="--port")
        case _:
            return CannotListen(settings.host, f"is no address of this machine: {error.strerror}", flag="--host")
