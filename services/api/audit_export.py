"""Entries as bytes for other programs: JSON lines, CSV, or CloudEvents one a line."""

import csv
import io
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from events import canonical
from events.audit.search import Found
from services.api.auditing import Auditing

Format = Literal["ndjson", "csv", "cloudevents"]
MEDIA_TYPES: dict[str, str] = {
    "ndjson": "application/x-ndjson",
    "csv": "text/csv",
    # One event a line; a batch would be one JSON array, which nobody can go on with where it broke off.
    "cloudevents": "application/x-ndjson",
}
COLUMNS = ("stream", "position", "time", "kind", "subject", "by", "version", "cause", "sentence", "data")
BATCH_LINES = 200

_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def rows(auditing: Auditing, found: Iterable[Found], how: Format, *, with_header: bool) -> Iterator[bytes]:
    """The lines of an export, some at a time; CSV begins with the names of its columns where it begins."""
    if how == "csv" and with_header:
        yield _csv([COLUMNS])
    left = iter(found)
    while some := list(itertools.islice(left, BATCH_LINES)):
        match how:
            case "cloudevents":
                yield b"".join(auditing.told(one).body + b"\n" for one in some)
            case "ndjson":
                yield b"".join(canonical.encode(auditing.line(one)) + b"\n" for one in some)
            case "csv":
                lines = (auditing.line(one) for one in some)
                yield _csv([_cell(line[column]) for column in COLUMNS] for line in lines)


def _csv(lines: Iterable[Iterable[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    """A value as a cell; what a spreadsheet would take for a formula has an apostrophe before it."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else canonical.encode(value).decode()
    # One record is one line, so that whoever goes on finds the last one.
    text = " ".join(text.splitlines())
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULAS) else text
