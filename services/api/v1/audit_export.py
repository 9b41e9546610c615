"""Entries as bytes for other programs: JSON lines, CSV, or CloudEvents one a line."""

import csv
import io
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec

from events import canonical
from events.audit.search import FoundEntry
from events.visible import visible, visible_json
from services.api.v1.history_entries import Auditing

Format = Literal["ndjson", "csv", "cloudevents"]
MEDIA_TYPES: dict[str, str] = {
    "ndjson": "application/x-ndjson",
    "csv": "text/csv",
    # One event a line; a batch would be one JSON array, which nobody can go on with where it broke off.
    "cloudevents": "application/x-ndjson",
}
COLUMNS = ("stream", "position", "time", "kind", "subject", "by", "version", "cause", "sentence", "data")
BATCH_LINES = 200

_FORMULAS = ("=", "+", "-", "@", "\\t", "\\r")


def rows(auditing: Auditing, entries: Iterable[FoundEntry], how: Format, *, with_header: bool) -> Iterator[bytes]:
    """The lines of an export, some at a time; CSV begins with the names of its columns where it begins."""
    if how == "csv" and with_header:
        yield _csv([COLUMNS])
    left = iter(entries)
    while batch := list(itertools.islice(left, BATCH_LINES)):
        match how:
            case "cloudevents":
                yield b"".join(_line(auditing.told(entry).body) for entry in batch)
            case "ndjson":
                yield b"".join(_line(msgspec.json.encode(auditing.line(entry), order="sorted")) for entry in batch)
            case "csv":
                lines = (auditing.line(entry) for entry in batch)
                yield _csv([_cell(getattr(line, column)) for column in COLUMNS] for line in lines)


def _line(json: bytes) -> bytes:
    return visible_json(json.decode()).encode() + b"\n"


def _csv(lines: Iterable[Iterable[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    """A value as a cell on one line; what a spreadsheet would take for a formula has an apostrophe before it.

    Characters that act on a terminal are escaped: as in JSON where the cell is JSON, else as `visible` writes them.
    """
    if value is None:
        return ""
    text = visible(value) if isinstance(value, str) else visible_json(canonical.encode(value).decode())
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULAS) else text
