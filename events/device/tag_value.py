"""The type of a tag's value that is given as text: in a CSV file, or in `--tag name=value`."""

import json

from events.properties import INTEGER_MAX, INTEGER_MIN

_WORDS = {"true": True, "false": False, "": None}


def tag_value(text: str) -> str | int | float | bool | None:
    """Returns the typed value of a text. The type matters: conditions compare numbers only with numbers, and text only with text.

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
