"""The time and version of each property's last change, stored only where it differs from the enclosing object's.

A section's own stamp is in its document. A property without a stamp has the stamp of its object, so a section that was set
at once needs no tree. In a tree, `$_at` and `$v` are a property's own stamp; property names have no `$`.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from events.canonical import JsonObject
from events.device.times import time_text

_AT, _VERSION = "$_at", "$v"


class Stamp(msgspec.Struct, frozen=True):
    """The time (milliseconds) and the section's version of a change."""

    at: int
    version: int


def restamped(value: Mapping[str, Any], patch: Mapping[str, Any], tree: JsonObject, stamp: Stamp) -> JsonObject:
    """Returns the tree after a merge patch; `stamp` is the object's stamp before it."""
    after: JsonObject = {}
    for name, item in value.items():
        own: JsonObject = tree.get(name, {})
        # Touched properties get the new stamp of their object, which is not stored; untouched ones now need their old stamp.
        if name not in patch:
            after[name] = own if _AT in own else {**own, _AT: stamp.at, _VERSION: stamp.version}
        elif isinstance(item, dict) and isinstance(patch[name], dict):
            inner = restamped(item, patch[name], own, _stamp(own, stamp))
            if inner:
                after[name] = inner
    return after


def metadata(value: Mapping[str, Any], tree: JsonObject, stamp: Stamp, *, versions: bool) -> JsonObject:
    """Returns `$metadata` of a section as the hub shows it (contract/hub.md §1.6), for reported properties without `versions`."""
    stamps: JsonObject = {"$lastUpdated": time_text(stamp.at)}
    if versions:
        stamps["$lastUpdatedVersion"] = stamp.version
    for name, item in value.items():
        own: JsonObject = tree.get(name, {})
        stamps[name] = metadata(item if isinstance(item, dict) else {}, own, _stamp(own, stamp), versions=versions)
    return stamps


def _stamp(own: JsonObject, around: Stamp) -> Stamp:
    return Stamp(own[_AT], own[_VERSION]) if _AT in own else around
