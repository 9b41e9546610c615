"""The setting that names personal tags, whose values are hidden."""

import re

# The names that tags can have (events/properties.py), without the comma, which separates paths.
_PATH = re.compile(r"[^\x00-\x20.$#\x7f,]+(\.[^\x00-\x20.$#\x7f,]+)*")

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
