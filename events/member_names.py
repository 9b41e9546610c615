"""How messages name members: in backticks, by the names of commands; whoever shows a message puts in the names its reader uses."""

import re
from collections.abc import Callable

from events.camel_case import camel_case

_NAMED = re.compile(r"`([A-Za-z_][A-Za-z0-9_]*(?:\[[0-9]+\]|\.[A-Za-z_][A-Za-z0-9_]*)*)`")
_OTHERWISE = {"schedule.start_at": "schedule.start", "schedule.end_at": "schedule.end"}


def renamed(message: str, name_of: Callable[[str], str]) -> str:
    """A message with each name in backticks replaced by what a function makes of it."""
    return _NAMED.sub(lambda match: name_of(match[1]), message)


def in_body_names(message: str) -> str:
    """A message for who sent a JSON body: `offline_seconds` is `offlineSeconds` there."""
    return renamed(message, lambda name: f"`{body_name(name)}`")


def body_name(name: str) -> str:
    """What a member of a command is called in a JSON body."""
    return camel_case(_OTHERWISE.get(name, name))
