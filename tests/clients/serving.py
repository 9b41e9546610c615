"""A hub for clients: `twinfold up` in a directory of a test's own, and what its command line prints for them."""

import contextlib
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec

from tests import waiting
from tests.api.signing import signed
from tests.cli.running import up


class Hub(msgspec.Struct, frozen=True):
    """A running twinfold, as somebody knows it who has its data directory. `ca` is the file that clients trust."""

    data: Path
    ca: Path
    owner: str
    admin: httpx.Client

    def connection_string(self, *flags: str) -> str:
        return printed(self.data, "connection-string", *flags)

    @contextlib.contextmanager
    def signing(self, connection_string: str) -> Iterator[httpx.Client]:
        """A client that signs with a connection string, a policy's or a device's."""
        parts = dict(part.split("=", 1) for part in connection_string.split(";"))
        resource = parts["HostName"] + "".join(
            f"/{kind}/{parts[name]}"
            for kind, name in (("devices", "DeviceId"), ("modules", "ModuleId"))
            if name in parts
        )
        signature = signed(parts["SharedAccessKey"], resource, policy=parts.get("SharedAccessKeyName", ""))
        trusting = ssl.create_default_context(cafile=self.ca)
        with httpx.Client(
            base_url=f"https://{parts['HostName']}",
            headers={"Authorization": signature},
            verify=trusting,
            timeout=waiting.seconds(),
        ) as client:
            yield client


def printed(data: Path, *words: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "services.cli", *words, "--data", str(data)]
    return waiting.run(command, check=True).stdout.strip()


@contextlib.contextmanager
def hub(data: Path, *, port: int | None = None, **environment: str) -> Iterator[Hub]:
    """A hub until the end of the block."""
    with up(data, port=port, **environment) as (_, admin, _):
        yield Hub(data, Path(printed(data, "ca")), printed(data, "connection-string"), admin)
