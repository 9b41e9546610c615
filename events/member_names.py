"""Replaces the names of members in messages, which are in backticks, by the names that the reader uses."""

import re
from collections.abc import Callable

from events.camel_case import camel_case

_NAMED = re.compile(r"`([A-Za-z_][A-Za-z0-9_]*(?:\[[0-9]+\]|\.[A-Za-z_][A-Za-z0-9_]*)*)`")
_OTHERWISE = {"schedule.start_at": "schedule.start", "schedule.end_at": "schedule.end"}


def renamed(message: str, name_of: Callable[[str], str]) -> str:
    """A message with each name in backticks replaced by `name_of` of it."""
    return _NAMED.sub(lambda match: name_of(match[1]), message)


def in_body_names(message: str) -> str:
    """A message for the sender of a JSON body, where `offline_seconds` is `offlineSeconds`."""
    return renamed(message, lambda name: f"`{body_name(name)}`")


def body_name(name: str) -> str:
    """The name of a command's member in a JSON body."""
    return camel_case(_OTHERWISE.get(name, name))
