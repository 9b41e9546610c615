"""A PostgreSQL server of its own for a comparison: on a socket in a temporary directory, and gone afterwards."""

import contextlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_BINARIES = Path("/usr/lib/postgresql")
"""Where Debian installs the servers of each version, which are not on PATH."""


class CannotCompare(Exception):
    """Something that the comparison needs is not installed; the message names it."""


def binary_directory() -> Path:
    """The directory of the newest server's binaries.

    Raises:
        CannotCompare: PostgreSQL, or its client for Python, is not installed.
    """
    if importlib.util.find_spec("psycopg") is None:
        raise CannotCompare("PostgreSQL is not compared: pip install 'psycopg[binary]'")
    if (on_path := shutil.which("initdb")) is not None:
        return Path(on_path).resolve().parent
    versions = sorted(_BINARIES.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if not versions:
        raise CannotCompare("PostgreSQL is not compared: apt-get install postgresql")
    return versions[-1].parent


class PostgresServer:
    """A running server; `conninfo` connects to it."""

    def __init__(self, directory: Path, process: "subprocess.Popen[bytes]") -> None:
        self.conninfo = f"host={directory} dbname=postgres user=benchmark"
        self._process = process

    def cpu_seconds(self) -> float:
        """Processor time of the server and of all its processes, also of those that have ended."""
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                number, parent = int(stat.parts[-2]), int(fields[1])
                if number == self._process.pid:
                    # With its children that have ended.
                    ticks += sum(map(int, fields[11:15]))
                elif parent == self._process.pid:
                    ticks += sum(map(int, fields[11:13]))
        return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server with Debian's settings, except for its memory, checkpoints and compilation of expressions.

    Raises:
        CannotCompare: as `binary_directory`.
    """
    binaries = binary_directory()
    # initdb and postgres refuse to run as root.
    user = None if os.geteuid() else _other_user()
    with tempfile.TemporaryDirectory(prefix="twinfold-postgres-") as name:
        directory = Path(name)
        if user is not None:
            shutil.chown(directory, user)
        data, log = directory / "data", (Path(name) / "log")
        _run([binaries / "initdb", "-D", data, "-U", "benchmark", "-A", "trust", "--no-sync", "-E", "UTF8"], user)
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": name,
            "shared_buffers": "256MB",
            "max_wal_size": "8GB",
            "checkpoint_timeout": "1h",
            # Compiling a thousand conditions takes longer than evaluating them for all devices.
            "jit": "off",
        }
        options = [word for setting, value in settings.items() for word in ("-c", f"{setting}={value}")]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [binaries / "postgres", "-D", data, *options], stderr=output, stdout=output, user=user, cwd=directory
            )
        try:
            _run([binaries / "pg_isready", "-h", name, "-d", "postgres", "-t", "1"], user, tries=600)
            yield PostgresServer(directory, process)
        finally:
            # SIGTERM would wait for the client, which is still connected.
            process.send_signal(signal.SIGINT)
            process.wait()


def _other_user() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _run(command: list[str | Path], user: str | None, *, tries: int = 1) -> None:
    for left in reversed(range(tries)):
        done = subprocess.run(command, user=user, cwd="/", capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if not left:
            raise RuntimeError(f"{command[0]}: {done.stderr or done.stdout}")
        time.sleep(0.1)


_COMPARISON = re.compile(r"tags\.(\w+) (=|>=|<|<=|>) ('[^']*'|true|false|\d+)")


def sql_of(condition: str, tags: str) -> str:
    """A condition of `fleets.condition` in SQL, on a JSONB expression."""

    def comparison(match: "re.Match[str]") -> str:
        name, operator, literal = match.groups()
        if literal.startswith("'"):
            return f"{tags}->>'{name}' {operator} {literal}"
        kind = "boolean" if literal in {"true", "false"} else "integer"
        return f"({tags}->>'{name}')::{kind} {operator} {literal}"

    return _COMPARISON.sub(comparison, condition)
