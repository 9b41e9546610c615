"""`twinfold up` in a directory of a test's own, and a client that may do everything there."""

import contextlib
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx

from services.local_api import token
from tests import waiting
from tests.api.serving import API_VERSION, free_port


def command(data: Path, port: int, *flags: str) -> list[str]:
    words = [sys.executable, "-m", "services.cli", "up", "--data", str(data), "--port", str(port), "--workers", "1"]
    return [*words, *flags]


def client(data: Path, port: int, *, trusting: Path | None) -> httpx.Client:
    """A client that trusts an authority, the directory's own if none is given, and shows the directory's token."""
    ca = trusting or data / "tls" / "ca.pem"
    trusted = ssl.create_default_context(cafile=ca if ca.exists() else None)
    return httpx.Client(
        base_url=f"https://127.0.0.1:{port}",
        headers=bearer(data),
        params=API_VERSION,
        verify=trusted,
        timeout=waiting.seconds(),
    )


def bearer(data: Path) -> dict[str, str]:
    """The header that shows the directory's own token."""
    return {"Authorization": f"Bearer {token(data)}"}


@contextlib.contextmanager
def up(
    data: Path, *flags: str, trusting: Path | None = None, port: int | None = None, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], httpx.Client, list[str]]]:
    """`twinfold up` until the end of the block, with what it said until it was ready."""
    port, said = port or free_port(), []
    environment = {**os.environ, "TWINFOLD_LOG_LEVEL": "error", **environment}
    with waiting.started(
        command(data, port, *flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            with waiting.limited(process):
                while not said or not said[-1].startswith("workers"):
                    line = process.stdout.readline()
                    assert line, process.stderr.read() if process.stderr else ""
                    said.append(line)
            with client(data, port, trusting=trusting) as http:
                yield process, http, said
        finally:
            if process.poll() is None:
                process.terminate()
                waiting.exit_code(process)
