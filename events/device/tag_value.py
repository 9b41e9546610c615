"""Which value a tag has whose value comes as text: from a CSV file, or from `--tag name=value`."""

import json

from events.properties import INTEGER_MAX, INTEGER_MIN

_WORDS = {"true": True, "false": False, "": None}


def tag_value(text: str) -> str | int | float | bool | None:
    """The typed value of a text; conditions compare numbers with numbers and text with text alone.

    - `true` and `false` are booleans.
    - A number in the very form that JSON writes it (`2`, `-1.5`) is a number, so that no digit is lost: `007`, `1.10`,
      `1e5`, `+1` and integers that a twin cannot hold (beyond ±2^52) stay text.
    - Text in double quotes is the text between them, as JSON reads it: `"2"` is the text 2.
    - Nothing (`""`) is `None`, which removes the tag.
    - All else is text, as it is.
    """
    if text in _WORDS:
        return _WORDS[text]
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
