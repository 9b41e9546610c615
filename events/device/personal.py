"""Which tags say something about a person, as the setting writes it."""

import re

_PATH = re.compile(r"[^\x00-\x20.$#\x7f,]+(\.[^\x00-\x20.$#\x7f,]+)*")

HIDDEN = "***"
"""Stands for a personal value wherever tags are shown."""


def personal_paths(text: str) -> tuple[tuple[str, ...], ...]:
    """Read `owner,contact.mail`: paths below `tags`, sorted.

    Raises:
        ValueError: a part is no path of a tag.
    """
    parts = {part.strip() for part in text.split(",") if part.strip()}
    if not all(_PATH.fullmatch(part) for part in parts):
        raise ValueError("a personal tag is written owner or contact.mail, with commas between several")
    return tuple(sorted(tuple(part.split(".")) for part in parts))
