"""Tags: the type of a value that is given as text, and the setting that names personal tags, whose values are hidden."""

import json
import re

from events.properties import INTEGER_MAX, INTEGER_MIN

# The names that tags can have (events/properties.py), without the comma, which separates paths.
_PATH = re.compile(r"[^\x00-\x20.$#\x7f,]+(\.[^\x00-\x20.$#\x7f,]+)*")

_WORDS = {"true": True, "false": False, "": None}

HIDDEN = "***"
"""Replaces a personal value wherever tags are shown."""


def personal_paths(text: str) -> tuple[tuple[str, ...], ...]:
    """Returns the paths below `tags` in a text such as `owner,contact.mail`, sorted.

    Raises:
        ValueError: a part is not the path of a tag.
    """
    parts = {part.strip() for part in text.split(",") if part.strip()}
    if not all(_PATH.fullmatch(part) for part in parts):
        raise ValueError("a personal tag is a path such as owner or contact.mail; separate several with commas")
    return tuple(sorted(tuple(part.split(".")) for part in parts))


def tag_value(text: str) -> str | int | float | bool | None:
    """Returns the typed value of a tag that is given as text, in a CSV file or in `--tag name=value`.

    The type matters: conditions compare numbers only with numbers, and text only with text.

    - `true` and `false` are booleans.
    - A number in the form that JSON writes (`2`, `-1.5`) is a number. To lose no digit, `007`, `1.10`, `1e5`, `+1` and integers
      that a twin cannot hold (beyond ±2^52) stay text.
    - Text in double quotes is the text between them, as JSON reads it: `"2"` is the text 2.
    - The empty text is `None`, which removes the tag.
    - Everything else is text.
    """
    if text in _WORDS:
        return _WORDS[text]
    # JSON text ends with a quote, and a number with a digit; this keeps `null`, `NaN` and `[1]` from the JSON parser.
    if text[0] != '"' and text[-1:] not in "0123456789":
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, str):
        return value
    is_number = isinstance(value, int | float) and json.dumps(value) == text
    return value if is_number and (isinstance(value, float) or INTEGER_MIN <= value <= INTEGER_MAX) else text
