"""What is given on the command line: files, and standard input for `-`."""

import json
import sys
from pathlib import Path

from events.canonical import JsonObject
from events.unique_names import with_unique_names

STANDARD_INPUT = "-"


class InputUnreadable(Exception):
    """A file given on the command line, or standard input, is not JSON."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"{place}: {why}")
        self.place, self.why = place, why


def read_text(place: str) -> str:
    """The text of a file, or of standard input for `-`; a byte order mark is left out.

    Raises:
        InputUnreadable: there is none.
    """
    try:
        data = sys.stdin.buffer.read() if place == STANDARD_INPUT else Path(place).read_bytes()
        return data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else None
        raise InputUnreadable(place, why or str(error)) from error


def read_json(place: str) -> JsonObject:
    """The JSON object in a file, or on standard input for `-`.

    Raises:
        InputUnreadable: there is none.
    """
    try:
        document = json.loads(read_text(place), object_pairs_hook=with_unique_names)
    except (ValueError, RecursionError) as error:
        raise InputUnreadable(place, str(error)) from error
    if not isinstance(document, dict):
        raise InputUnreadable(place, "a JSON object is wanted")
    return document
