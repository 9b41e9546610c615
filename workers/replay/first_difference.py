"""The first place at which two values differ."""

import itertools
from collections.abc import Iterator
from typing import Any

import msgspec

from events import canonical
from events.secrets.references import mask

_TEXT_MAX = 120
_MISSING = object()

FirstDifference = tuple[str, str, str]
"""Path, stored text and replayed text, in the order of the fields of `ReplayDifference`."""


def first_difference(stored: Any, replayed: Any) -> FirstDifference | None:
    """The first difference of two JSON values, in the order of names; `None` if they are equal.

    Numbers are equal only if JSON writes them the same way: 1 is not 1.0. A missing value has an empty text.
    """
    return next(_differences(stored, replayed, "$"), None)


def difference_of_bytes(stored: bytes | None, replayed: bytes | None) -> FirstDifference | None:
    """The first difference of two JSON documents; of the whole text if either is missing or not JSON."""
    if stored == replayed:
        return None
    whole = ("$", _short(stored), _short(replayed))
    try:
        pair = [_MISSING if data is None else msgspec.json.decode(data) for data in (stored, replayed)]
    except msgspec.DecodeError:
        return whole
    # One value written in two ways is a difference too: a rebuild must give the same bytes (decisions/0012).
    return first_difference(*pair) or whole


def _differences(stored: Any, replayed: Any, path: str) -> Iterator[FirstDifference]:
    if isinstance(stored, dict) and isinstance(replayed, dict):
        for name in sorted(stored.keys() | replayed.keys()):
            yield from _differences(stored.get(name, _MISSING), replayed.get(name, _MISSING), f"{path}.{name}")
    elif isinstance(stored, list) and isinstance(replayed, list):
        for number, pair in enumerate(itertools.zip_longest(stored, replayed, fillvalue=_MISSING)):
            yield from _differences(*pair, f"{path}[{number}]")
    # True == 1 == 1.0 in Python, but not in JSON.
    elif type(stored) is not type(replayed) or stored != replayed:
        yield path, _short(_encoded(stored)), _short(_encoded(replayed))


def _encoded(value: Any) -> bytes | None:
    # A difference can lie in a document that refers to secrets; their ids are masked as everywhere else.
    return None if value is _MISSING else canonical.encode(mask(value))


def _short(data: bytes | None) -> str:
    text = "" if data is None else data.decode(errors="replace")
    return text if len(text) <= _TEXT_MAX else text[: _TEXT_MAX - 1] + "…"
