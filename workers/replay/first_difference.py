"""Where two values part first."""

from collections.abc import Iterator
from typing import Any

import msgspec

from events import canonical
from events.secrets.references import mask

_TEXT_MAX = 120
_MISSING = object()


def first_difference(stored: Any, replayed: Any) -> tuple[str, str, str] | None:
    """The path to the first difference of two JSON values (names in order), with what stands there; `None` where they are equal.

    Numbers count as equal only as JSON writes them: 1 is not 1.0. What is not there is empty.
    """
    return next(_differences(stored, replayed, "$"), None)


def difference_of_bytes(stored: bytes | None, replayed: bytes | None) -> tuple[str, str, str] | None:
    """As `first_difference`, of two documents in JSON; where one is none, or not JSON, of the whole."""
    if stored == replayed:
        return None
    try:
        pair = [_MISSING if one is None else msgspec.json.decode(one) for one in (stored, replayed)]
    except msgspec.DecodeError:
        return "$", _short_bytes(stored), _short_bytes(replayed)
    # Two ways to write one value: the bytes differ all the same.
    return first_difference(*pair) or ("$", _short_bytes(stored), _short_bytes(replayed))


def _differences(stored: Any, replayed: Any, path: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(stored, dict) and isinstance(replayed, dict):
        for name in sorted(stored.keys() | replayed.keys()):
            yield from _differences(stored.get(name, _MISSING), replayed.get(name, _MISSING), f"{path}.{name}")
    elif isinstance(stored, list) and isinstance(replayed, list):
        for number in range(max(len(stored), len(replayed))):
            one = stored[number] if number < len(stored) else _MISSING
            other = replayed[number] if number < len(replayed) else _MISSING
            yield from _differences(one, other, f"{path}[{number}]")
    elif type(stored) is not type(replayed) or stored != replayed:
        yield path, short(stored), short(replayed)


def short(value: Any) -> str:
    """A value as it is shown: JSON, without the ids of secrets, cut where it is long; empty for what is not there."""
    return "" if value is _MISSING else _cut(canonical.encode(mask(value)).decode())


def _short_bytes(data: bytes | None) -> str:
    return "" if data is None else _cut(data.decode(errors="replace"))


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_MAX else text[: _TEXT_MAX - 1] + "…"
