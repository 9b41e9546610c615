"""Files named on the command line, and standard input for `-`."""

import json
import sys
from pathlib import Path

from events.canonical import JsonObject
from events.unique_names import with_unique_names

STANDARD_INPUT = "-"


class InputUnreadable(Exception):
    """A file named on the command line, or standard input, cannot be read or is not what it should be."""

    def __init__(self, location: str, why: str) -> None:
        super().__init__(f"{location}: {why}")
        self.location, self.why = location, why


def read_text(location: str) -> str:
    """The text of a file, or of standard input for `-`, without a byte order mark.

    Raises:
        InputUnreadable: the file cannot be read, or is not UTF-8.
    """
    try:
        data = sys.stdin.buffer.read() if location == STANDARD_INPUT else Path(location).read_bytes()
        return data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else None
        raise InputUnreadable(location, why or str(error)) from error


def read_json(location: str) -> JsonObject:
    """The JSON object in a file, or on standard input for `-`.

    Raises:
        InputUnreadable: the file cannot be read, is not JSON, or holds something else than an object.
    """
    try:
        document = json.loads(read_text(location), object_pairs_hook=with_unique_names)
    except (ValueError, RecursionError) as error:
        raise InputUnreadable(location, str(error)) from error
    if not isinstance(document, dict):
        raise InputUnreadable(location, "must be a JSON object")
    return document
