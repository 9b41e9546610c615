"""The limits of the sections of a twin (contract/hub.md §6), and merge patches of sections."""

import functools
import math
import re
from typing import Any

import msgspec

from events import canonical
from events.canonical import JsonObject

TAGS_BYTES_MAX = 8 * 1024
DESIRED_BYTES_MAX = 32 * 1024
BYTES_MAX = {"tags": TAGS_BYTES_MAX, "properties.desired": DESIRED_BYTES_MAX, "properties.reported": 32 * 1024}

KEY_BYTES_MAX = 1024
STRING_BYTES_MAX = 4096
DEPTH_MAX = 10
# The documented range; a hub was seen to reject the lowest number (contract/hub.md §6).
INTEGER_MIN = -(2**52)
INTEGER_MAX = 2**52 - 1

SECRET = "$secret"  # noqa: S105 - the name of a reference's only key, not a secret

_NUMBER_BYTES = 8
_BOOLEAN_BYTES = 4
_UNCOUNTED = ("$etag", "$metadata", "$version")
_SHOWN_CHARACTERS_MAX = 80
_KEY_RULE = "no control character, space, '.', '$' or '#'"
# UTF-8 has at most 4 bytes a character: no shorter key breaks the limit, and the cache of keys stays below 5 MB.
_KEY_CACHED_CHARACTERS_MAX = KEY_BYTES_MAX // 4
_key_fits = re.compile("[^\x00-\x20.$#\x7f-\x9f\ud800-\udfff]*").fullmatch
_surrogate_in = re.compile("[\ud800-\udfff]").search


class LimitProblem(msgspec.Struct, frozen=True):
    """A value that breaks a limit; `message` says how, without the path.

    `rule` is one of key-length, key-characters, string-length, string-unicode, depth, integer-range, number-finite,
    null, type and size; `limit` is the allowed value and `actual` the given one, in the unit of the rule.
    """

    path: str
    rule: str
    limit: int | str
    actual: int | str
    message: str


def problems_of(
    value: object, *, root: str, size_bytes_max: int, nulls_allowed: bool = False, references_allowed: bool = False
) -> tuple[LimitProblem, ...]:
    """All limits that a section, or a patch of a section, breaks; empty if there are none.

    `root` is the start of every path, as `tags` in `tags.site.floor`. `nulls_allowed` is for patches, where null removes a
    member; an array never has null. `references_allowed` accepts references to secrets. Accepts any Python value.
    """
    if not isinstance(value, dict):
        return (_wrong_type(root, value, "an object"),)
    problems: list[LimitProblem] = []
    size = 0
    # A list of nodes instead of recursion: no depth of nesting can exhaust the interpreter's stack. Types are compared and not
    # tested with isinstance, as bool is an int in Python. The limit of depth counts objects; an array counts only inside
    # another array, which the contract does not mention.
    nodes: list[tuple[Any, str, int]] = [(value, root, 0)]
    for node, path, depth in nodes:
        in_array = type(node) is list
        for key, item in enumerate(node) if in_array else node.items():
            if not in_array:
                key_size = _key_size(key) if type(key) is str and len(key) <= _KEY_CACHED_CHARACTERS_MAX else None
                if key_size is None:
                    problems.extend(_key_problems(key, path))
                    key_size = _text_bytes(key) if type(key) is str else 0
                size += key_size
            kind = type(item)
            if kind is str:
                length = len(item) if item.isascii() else _text_bytes(item)
                size += length
                if length > STRING_BYTES_MAX or (length != len(item) and _surrogate_in(item)):
                    problems.extend(_string_problems(item, length, _join(path, key)))
            elif kind is bool:
                size += _BOOLEAN_BYTES
            elif kind is int:
                size += _NUMBER_BYTES
                if not INTEGER_MIN <= item <= INTEGER_MAX:
                    limit = f"{INTEGER_MIN}…{INTEGER_MAX}"
                    # Python refuses to print integers of more than 4,300 decimal digits; hexadecimal has no limit.
                    actual = str(item) if item.bit_length() < 2 * 64 else _shown(hex(item))
                    message = f"an integer lies in {limit}, not at {actual}"
                    problems.append(LimitProblem(_join(path, key), "integer-range", limit, actual, message))
            elif references_allowed and is_secret(item):
                size += size_of(item)
            elif kind is dict or kind is list:
                depth_below = depth + (kind is dict or in_array)
                if depth_below > DEPTH_MAX:
                    message = f"objects nest at most {DEPTH_MAX} deep"
                    problems.append(LimitProblem(_join(path, key), "depth", DEPTH_MAX, DEPTH_MAX + 1, message))
                else:
                    nodes.append((item, _join(path, key), depth_below))
            elif kind is float:
                size += _NUMBER_BYTES
                if not math.isfinite(item):
                    message = f"a number is finite, not {item}"
                    problems.append(LimitProblem(_join(path, key), "number-finite", "finite", str(item), message))
            elif item is not None:
                problems.append(_wrong_type(_join(path, key), item, "a JSON value"))
            elif in_array or not nulls_allowed:
                message = "an array holds no null" if in_array else "null removes a property and is not a value of one"
                problems.append(LimitProblem(_join(path, key), "null", "a value", "null", message))
    if size > size_bytes_max:
        message = f"a section has at most {size_bytes_max} bytes of keys and values, this one has {size}"
        problems.append(LimitProblem(root, "size", size_bytes_max, size, message))
    return tuple(problems)


def size_of(section: object) -> int:
    """The bytes of a section that count against its limit.

    UTF-8 of keys and strings, 8 for a number, 4 for a boolean, 0 for null and for the section's own `$etag`,
    `$metadata` and `$version`. A reference to a secret counts as the reference.
    """
    size = 0
    nodes: list[Any] = [section]
    if isinstance(section, dict) and any(name in section for name in _UNCOUNTED):
        nodes = [{key: item for key, item in section.items() if key not in _UNCOUNTED}]
    for node in nodes:
        kind = type(node)
        if kind is str:
            size += _text_bytes(node)
        elif kind is bool:
            size += _BOOLEAN_BYTES
        elif kind is int or kind is float:
            size += _NUMBER_BYTES
        elif kind is dict:
            nodes.extend(node)
            nodes.extend(node.values())
        elif kind is list:
            nodes.extend(node)
    return size


def is_secret(value: object) -> bool:
    """Whether a value is a reference to a secret: exactly `{"$secret": id}`."""
    return isinstance(value, dict) and len(value) == 1 and type(value.get(SECRET)) is str


def masked(section: JsonObject, *, mask: str) -> JsonObject:
    """A copy of a section with `mask` in place of each reference to a secret."""
    return {
        name: mask if is_secret(item) else masked(item, mask=mask) if type(item) is dict else item
        for name, item in section.items()
    }


def merge_patch(target: JsonObject, patch: JsonObject) -> JsonObject:
    """A new object: `target` with a merge patch (RFC 7386) applied.

    Null removes a member, objects merge, every other value replaces the old one, also arrays. The result shares unchanged
    parts with both arguments, so none of the three may be modified.
    """
    merged = dict(target)
    unmerged = [(merged, patch)]
    for into, changes in unmerged:
        for key, value in changes.items():
            if value is None:
                into.pop(key, None)
            elif isinstance(value, dict):
                current = into.get(key)
                into[key] = child = dict(current) if isinstance(current, dict) else {}
                unmerged.append((child, value))
            else:
                into[key] = value
    return merged


def patch_between(before: JsonObject, after: JsonObject) -> JsonObject:
    """The smallest merge patch that changes `before` into `after`, which has no null."""
    patch: JsonObject = {name: None for name in before if name not in after}
    for name, value in after.items():
        current = before.get(name)
        if type(value) is dict and type(current) is dict:
            if inner := patch_between(current, value):
                patch[name] = inner
        elif name not in before or canonical.encode(current) != canonical.encode(value):
            patch[name] = value
    return patch


@functools.lru_cache(4096)
def _key_size(key: str) -> int | None:
    """The bytes of a key; `None` for one that breaks a rule."""
    # A fleet has few names of properties, and each is checked with every write of a device.
    return _text_bytes(key) if _key_fits(key) else None


def _text_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _join(path: str, key: object) -> str:
    return f"{path}[{key}]" if type(key) is int else f"{path}.{_shown(key)}"


def _shown(value: object) -> str:
    text = str(value)
    if len(text) > _SHOWN_CHARACTERS_MAX:
        text = text[:_SHOWN_CHARACTERS_MAX] + "…"
    return text.encode("utf-8", "backslashreplace").decode()


def _key_problems(key: object, path: str) -> list[LimitProblem]:
    if type(key) is not str:
        return [_wrong_type(_join(path, str(key)), key, "a string as key")]
    problems = []
    if (length := _text_bytes(key)) > KEY_BYTES_MAX:
        message = f"a key has at most {KEY_BYTES_MAX} bytes, this one has {length}"
        problems.append(LimitProblem(_join(path, key), "key-length", KEY_BYTES_MAX, length, message))
    if not _key_fits(key):
        message = f"a key has {_KEY_RULE}: {_shown(key)!r}"
        problems.append(LimitProblem(_join(path, key), "key-characters", _KEY_RULE, _shown(key), message))
    return problems


def _string_problems(text: str, length: int, path: str) -> list[LimitProblem]:
    problems = []
    if length > STRING_BYTES_MAX:
        message = f"a string has at most {STRING_BYTES_MAX} bytes, this one has {length}"
        problems.append(LimitProblem(path, "string-length", STRING_BYTES_MAX, length, message))
    if _surrogate_in(text):
        message = "a string holds whole characters, this one half a surrogate pair"
        problems.append(LimitProblem(path, "string-unicode", "whole characters", "half a surrogate pair", message))
    return problems


def _wrong_type(path: str, value: object, expected: str) -> LimitProblem:
    actual = "null" if value is None else type(value).__name__
    return LimitProblem(path, "type", expected, actual, f"must be {expected}, not {actual}")
