"""The sockets on which the API listens: bound once, by the process that supervises it or by the API itself."""

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from events.settings import Settings

VARIABLE = "TWINFOLD_LISTENING"
"""In an API that `up` started: the descriptors of its sockets, separated by commas."""

BACKLOG = 4096


class CannotListen(Exception):
    """A port or an address cannot be listened on; `flag` is the flag to change."""

    def __init__(self, location: str, why: str, *, flag: str) -> None:
        variable = f"TWINFOLD_{flag.removeprefix('--').upper()}"
        super().__init__(f"{location} {why}; choose another with {flag} ({variable})")
        self.location, self.why, self.flag = location, why, flag


@contextmanager
def listening(settings: Settings) -> Iterator[list[socket.socket]]:
    """Yield sockets on the host and port of the settings, one for each address of the host; closed with the block.

    Raises:
        CannotListen: the port is in use, or the host is no address of this machine.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(_listen(settings, *address)) for address in _addresses(settings)]


def inherited() -> list[socket.socket]:
    """The sockets that `up` handed over; empty if `up` did not start this process."""
    return [socket.socket(fileno=int(number)) for number in os.environ.pop(VARIABLE, "").split(",") if number]


def handed_over(sockets: Sequence[socket.socket]) -> dict[str, str]:
    """The environment variable by which a child finds the sockets that it inherits."""
    return {VARIABLE: ",".join(str(listener.fileno()) for listener in sockets)}


def _addresses(settings: Settings) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    try:
        addresses = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except OSError as error:
        raise CannotListen(settings.host, f"is no address of this machine: {error.strerror}", flag="--host") from error
    return list(dict.fromkeys((family, (str(address[0]), int(address[1]))) for family, _, _, _, address in addresses))


def _listen(settings: Settings, family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Without it, a port is refused for a minute after a restart, while its last connections are in TIME_WAIT.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it. Without it, the second write of an answer waits for the client's delayed acknowledgement, and a
        # connection had 21 answers per second. asyncio sets it only if the protocol of the listening socket is given.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family is socket.AF_INET6:
            # Otherwise `::` takes the port of IPv4 as well, and the socket for `0.0.0.0` cannot bind it.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        port, flag = f"port {settings.port}", "--port"
        match error.errno:
            case errno.EADDRINUSE:
                raise CannotListen(f"{port} of {address[0]}", "is in use by another program", flag=flag) from error
            case errno.EACCES | errno.EPERM:
                raise CannotListen(port, "is for privileged programs", flag=flag) from error
            case _:
                why = f"is no address of this machine: {error.strerror}"
                raise CannotListen(settings.host, why, flag="--host") from error
    return listener
