"""The export of entries for other programs: JSON lines, CSV, or CloudEvents with one event per line."""

import csv
import io
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec

from events import canonical
from events.audit.search import FoundEntry
from events.terminal import visible, visible_json
from services.api.v1.history_entries import AuditReader

Format = Literal["ndjson", "csv", "cloudevents"]
MEDIA_TYPES: dict[str, str] = {
    "ndjson": "application/x-ndjson",
    "csv": "text/csv",
    # One event per line: the batch format of CloudEvents is a single JSON array, which cannot be continued after a break.
    "cloudevents": "application/x-ndjson",
}
COLUMNS = ("stream", "position", "time", "kind", "subject", "by", "version", "cause", "sentence", "data")
BATCH_LINES = 200

_FORMULAS = ("=", "+", "-", "@", "\\t", "\\r")


def export_of(
    reader: AuditReader, entries: Iterable[FoundEntry], format_: Format, *, with_header: bool
) -> Iterator[bytes]:
    """An export in parts of at most 200 lines. CSV can begin with the names of its columns."""
    if format_ == "csv" and with_header:
        yield _csv([COLUMNS])
    remaining = iter(entries)
    while batch := list(itertools.islice(remaining, BATCH_LINES)):
        match format_:
            case "cloudevents":
                yield b"".join(_line(reader.notification(entry).body) for entry in batch)
            case "ndjson":
                yield b"".join(_line(msgspec.json.encode(reader.line(entry), order="sorted")) for entry in batch)
            case "csv":
                lines = (reader.line(entry) for entry in batch)
                yield _csv([_cell(getattr(line, column)) for column in COLUMNS] for line in lines)


def _line(json: bytes) -> bytes:
    return visible_json(json.decode()).encode() + b"\n"


def _csv(lines: Iterable[Iterable[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    """A value as a cell on one line, with characters that control a terminal escaped as in JSON or by `visible`."""
    if value is None:
        return ""
    text = visible(value) if isinstance(value, str) else visible_json(canonical.encode(value).decode())
    # An apostrophe keeps a spreadsheet from running the cell as a formula: device ids and reasons are the callers' text.
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULAS) else text
