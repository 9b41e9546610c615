"""When each property of a section was last set, kept as far as it differs from what is around it.

A section's own stamp stands in its document. A property without a stamp has that of the object it is in, so that a section
set at once needs none at all. In a tree of stamps `$_at` and `$v` are a property's own; property names have no `$`.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from events.canonical import JsonObject
from events.device.times import time_text

_AT, _VERSION = "$_at", "$v"


class Stamp(msgspec.Struct, frozen=True):
    """A time in milliseconds, and the section's version that it belongs to."""

    at: int
    version: int


def restamped(value: Mapping[str, Any], patch: Mapping[str, Any], tree: JsonObject, stamp: Stamp) -> JsonObject:
    """The tree after a merge patch; `stamp` is what the object had before, and what is touched has that of the patch."""
    after: JsonObject = {}
    for name, item in value.items():
        own: JsonObject = tree.get(name, {})
        if name not in patch:
            after[name] = own if _AT in own else {**own, _AT: stamp.at, _VERSION: stamp.version}
        elif isinstance(item, dict) and isinstance(patch[name], dict):
            inner = restamped(item, patch[name], own, _of(own, stamp))
            if inner:
                after[name] = inner
    return after


def metadata(value: Mapping[str, Any], tree: JsonObject, stamp: Stamp, *, versions: bool) -> JsonObject:
    """`$metadata` of a section as the hub shows it (contract/hub.md §1.6); reported properties have no versions there."""
    shown: JsonObject = {"$lastUpdated": time_text(stamp.at)}
    if versions:
        shown["$lastUpdatedVersion"] = stamp.version
    for name, item in value.items():
        own: JsonObject = tree.get(name, {})
        shown[name] = metadata(item if isinstance(item, dict) else {}, own, _of(own, stamp), versions=versions)
    return shown


def _of(own: JsonObject, around: Stamp) -> Stamp:
    return Stamp(own[_AT], own[_VERSION]) if _AT in own else around
