"""A sealed log with events, and helpers that tamper with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from redis import Redis

from events.audit.sealer import Sealer
from events.log.entries import key_of
from events.settings import Settings, read_settings
from tests.workers.system import System, join

Entry = tuple[bytes, dict[bytes, bytes]]


def settings_of(system: System, directory: Path, **more: Any) -> Settings:
    return read_settings(redis_url=system.url, data_dir=directory, **more)


def sealer_of(system: System, directory: Path, **more: Any) -> Sealer:
    """A sealer on virtual time: everything is due at once."""
    settings = settings_of(system, directory, seal_every_events=1, **more)
    return Sealer(settings, system.log, clock=lambda: 1_000)


def fill(system: System, count: int, *, prefix: str = "d") -> None:
    system.do(*(command for number in range(count) for command in join(f"{prefix}{number}", site=f"s{number}")))


def entries(system: System, stream: str) -> list[Entry]:
    client: Any = Redis.from_url(system.url)
    found: list[Entry] = client.xrange(key_of(stream))
    client.close()
    return found


def write_again(system: System, stream: str, change: Callable[[list[dict[bytes, bytes]]], None]) -> None:
    """Make a stream anew with other entries, at dense positions, as whoever covers their tracks would."""
    fields = [dict(one) for _, one in entries(system, stream)]
    change(fields)
    _replace(system, key_of(stream), [(f"{number}-0", one) for number, one in enumerate(fields, 1)])


def replace_seals(system: System, change: Callable[[list[Entry]], None]) -> None:
    client: Any = Redis.from_url(system.url)
    seals: list[Entry] = client.xrange("{fleet}:seals")
    client.close()
    change(seals)
    _replace(system, "{fleet}:seals", seals)


def _replace(system: System, key: str, some: list[tuple[Any, dict[bytes, bytes]]]) -> None:
    client: Any = Redis.from_url(system.url)
    client.delete(key)
    for entry_id, fields in some:
        client.xadd(key, fields, id=entry_id)
    client.close()
