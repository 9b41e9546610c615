"""The embedded server's append-only file: where it is damaged, what is behind that place, and how to cut it there."""

import mmap
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

SINGLE, FOLDER = "appendonly.aof", "appendonlydir"
"""Redis 6.2 has one file; Redis 7 and Valkey have a folder with a manifest, a base and increments."""

# A server's binary is a checker if it is started under one of these names. Valkey's accepts those of Redis, too.
_CHECKER, _BASE_CHECKER = "redis-check-aof", "redis-check-rdb"
_VALKEY_BASE = b"VALKEY"
_GOOD_UP_TO = re.compile(r"ok_up_to=(\d+)")
_OFFSET = re.compile(r"\[offset (\d+)\]")
_PREAMBLE_END = re.compile(r"\[offset (\d+)\].*RDB looks OK")
_FOREIGN = re.compile(r"Wrong signature|Can't handle RDB format version")
# The messages of Redis and of Valkey.
_UNKNOWN = re.compile(
    r"Unknown command '(.*?)' reading the append only file"
    r"|reading the append only file \S+, error: unknown command '(.*?)', with args"
)
_EVENT = re.compile(rb"\{(p\d+|fleet)\}:log")
_COUNT, _SIZE = re.compile(rb"\*(\d{1,20})\r\n"), re.compile(rb"\$(\d{1,20})\r\n")
_CHECK_SECONDS_MAX = 3600.0
_BYTES_MAX = 64 << 20
_ARGUMENTS_MAX = 1 << 20


class Damage(msgspec.Struct, frozen=True):
    """The first place that cannot be read. `position` is the end of the last complete command: the file is readable up to there.

    `position` is `None` if the base is damaged, which can be read only as a whole. `is_last` is false if another file follows.
    """

    path: Path
    size: int
    position: int | None
    why: str
    is_last: bool = True

    @property
    def can_be_cut(self) -> bool:
        """Whether Redis can read the file once it is cut there."""
        # Without the end of one file, the commands in the next would apply to another state.
        return self.position is not None and self.is_last


class LogFileDamaged(Exception):
    """The append-only file cannot be read from some place on."""

    def __init__(self, damage: Damage) -> None:
        location = f"byte {damage.position} of {damage.size}" if damage.position is not None else "its base"
        remedy = (
            "`twinfold repair-log` shows what would be cut off there, and asks before it does"
            if damage.can_be_cut
            else "it cannot be cut there; restore a backup (docs/guides/backup.md)"
        )
        super().__init__(f"the log's file {damage.path} is damaged at {location}: {damage.why}; {remedy}")
        self.damage = damage


class Command(msgspec.Struct, frozen=True):
    """A complete command of the file: its begin and end in bytes, and its words."""

    start: int
    end: int
    words: tuple[bytes, ...]

    @property
    def event(self) -> str | None:
        """The event that the command appends, as `p03:17 TwinPatched edge-1`; `None` if it appends none."""
        match self.words:
            case (name, stream, entry_id, *fields) if name.upper() == b"XADD" and (of := _EVENT.fullmatch(stream)):
                pairs = dict(zip(fields[::2], fields[1::2], strict=False))
                names = (pairs.get(b"type", b"?"), pairs.get(b"subject", b""))
                position = entry_id.partition(b"-")[0]
                return b" ".join((of[1] + b":" + position, *names)).decode(errors="replace").strip()
            case _:
                return None


def find_damage(server: Path, directory: Path, *, server_log: Sequence[str] = ()) -> Damage | None:
    """The first place that the server cannot read; `None` if every file is intact.

    `server_log` are lines of the server's log: only the server finds unknown commands.
    """
    paths = files(directory)
    for path in paths:
        is_last = path == paths[-1]
        if not path.exists():
            return Damage(path, 0, None, "the manifest names it, and it does not exist", is_last)
        size = path.stat().st_size
        if size == 0:
            continue
        checked = _check(server, path)
        begins = _PREAMBLE_END.search(checked.stdout)
        for name in filter(None, map(_UNKNOWN.search, server_log)):
            unknown = name[1] or name[2]
            position = _begin_of(path, int(begins[1]) if begins else 0, unknown.encode())
            if position is not None:
                return Damage(path, size, position, f"{unknown!r} is no command", is_last)
        if checked.returncode:
            good = _GOOD_UP_TO.findall(checked.stdout)
            return Damage(path, size, int(good[-1]) if good else None, _reason_of(checked.stdout), is_last)
    return None


def files(directory: Path) -> list[Path]:
    """The files of the log in their order; empty if there is no log yet."""
    manifest = directory / FOLDER / f"{SINGLE}.manifest"
    if manifest.exists():
        lines = manifest.read_text(errors="replace").splitlines()
        parts = [line.split() for line in lines if " type h" not in line]
        return [manifest.parent / words[1] for words in parts if len(words) > 1 and words[0] == "file"]
    single = directory / SINGLE
    return [single] if single.exists() else []


def _check(server: Path, path: Path) -> subprocess.CompletedProcess[str]:
    with path.open("rb") as file:
        # Valkey's checker of append-only files accepts only a base that begins with REDIS (9.1.2).
        is_valkey_base = file.read(len(_VALKEY_BASE)) == _VALKEY_BASE
    # The server's binary is its own checker, so that both read by the same rules.
    return subprocess.run(  # noqa: S603 - the server's own binary
        [_BASE_CHECKER if is_valkey_base else _CHECKER, str(path)],
        executable=server,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=_CHECK_SECONDS_MAX,
    )


def _reason_of(text: str) -> str:
    """The problem in the checker's output, as `Expected to read 6 bytes, got 4 bytes`, or the offset in the base."""
    if _FOREIGN.search(text):
        return "this server cannot read the format of its base, which another or a newer server wrote"
    for line in text.splitlines():
        if line.startswith("0x") or "Reached EOF" in line or "Unexpected" in line:
            return " ".join(line.split()).split(": ", 1)[-1]
    offsets = _OFFSET.findall(text)
    return f"its base cannot be read behind byte {offsets[-1]}" if offsets else "it cannot be read"


def _begin_of(path: Path, start: int, name: bytes) -> int | None:
    """The begin of the first command with a name, or of the transaction that has it."""
    transaction: int | None = None
    for command in commands(path, start):
        called = command.words[0].upper() if command.words else b""
        if called == name.upper():
            return command.start if transaction is None else transaction
        if called == b"MULTI":
            transaction = command.start
        elif called == b"EXEC":
            transaction = None
    return None


def cut(damage: Damage, *, into: Path) -> None:
    """Cut a file where it is damaged, and write the removed bytes to the file `into`.

    Raises:
        OSError: the copy cannot be written, or the file not be cut; the file is unchanged.
    """
    assert damage.can_be_cut
    assert damage.position is not None
    with damage.path.open("r+b") as file:
        file.seek(damage.position)
        descriptor = os.open(into, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as copy:
            shutil.copyfileobj(file, copy)
            copy.flush()
            # The copy is on the disk before the original loses it.
            os.fsync(copy.fileno())
        file.truncate(damage.position)
        os.fsync(file.fileno())


def commands(path: Path, start: int) -> Iterator[Command]:
    """The complete commands from a place on; other bytes are skipped."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = start
        while (at := data.find(b"*", at)) >= 0:
            command = _command(data, at)
            if command is None:
                at += 1
            else:
                yield command
                at = command.end


def _command(data: mmap.mmap, start: int) -> Command | None:
    r"""The command that begins here, as in `*2\r\n$3\r\nDEL\r\n$1\r\na\r\n`; `None` if none does."""
    count = _COUNT.match(data, start)
    if count is None or not 0 < int(count[1]) <= _ARGUMENTS_MAX:
        return None
    words, at = list[bytes](), count.end()
    for _ in range(int(count[1])):
        size = _SIZE.match(data, at)
        if size is None or int(size[1]) > _BYTES_MAX:
            return None
        end = size.end() + int(size[1])
        if data[end : end + 2] != b"\r\n":
            return None
        words.append(data[size.end() : end])
        at = end + 2
    return Command(start, at, tuple(words))
