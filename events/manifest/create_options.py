"""createOptions: a container's settings as JSON text, split into chunks because strings in a twin are limited."""

import re
from collections.abc import Mapping

import msgspec

from events.canonical import JsonObject
from events.manifest.errors import CreateOptionsInvalid

CHUNK_CHARACTERS = 512
CHUNKS_MAX = 100

_NAME = "createOptions"
_number_in = re.compile(r"createoptions([0-9]*)", re.IGNORECASE).fullmatch


def is_chunk(key: str) -> bool:
    """Return whether a member of a module's settings is a chunk: `createOptions`, `createOptions01`, …, in any case."""
    return _number_in(key) is not None


def chunks_of(settings: Mapping[str, object], key: str) -> tuple[str, ...]:
    """Return the chunks that setting `key` removes: all others if `key` is the first chunk, else none.

    Without this, chunks of the previous text would continue a new and shorter one. A later chunk replaces only itself.
    """
    match = _number_in(key)
    is_first = match is not None and not match.group(1)
    return tuple(name for name in settings if is_first and name != key and is_chunk(name))


def join(settings: Mapping[str, object]) -> str:
    """Return the joined chunks of a module's settings; empty without chunks.

    Raises:
        CreateOptionsInvalid: a chunk is missing, doubled or not a string, or there are more than 100.
    """
    chunks = [(match.group(1), value) for key, value in settings.items() if (match := _number_in(key))]
    chunks.sort(key=lambda chunk: (chunk[0] != "", len(chunk[0].lstrip("0")), chunk[0].lstrip("0")))
    if len(chunks) > CHUNKS_MAX:
        raise _wrong(f"expected at most {CHUNKS_MAX} chunks found {len(chunks)}")
    for position, (number, value) in enumerate(chunks):
        if position == 0 and number:
            raise _wrong(f'expected empty field number but found "{_shown(number)}"')
        if position and number.lstrip("0") != str(position):
            raise _wrong(f"expected {_NAME}{position:02} found {_NAME}{_shown(number)}")
        if not isinstance(value, str):
            raise _wrong(f"expected a string in {_NAME}{_shown(number)}")
    return "".join(str(value) for _, value in chunks)


def split(text: str) -> dict[str, str]:
    """Return the members of a module's settings for a text: chunks of 512 characters, at least one.

    Raises:
        CreateOptionsInvalid: the text needs more than 100 chunks.
    """
    parts = [text[start : start + CHUNK_CHARACTERS] for start in range(0, len(text), CHUNK_CHARACTERS)] or [""]
    if len(parts) > CHUNKS_MAX:
        raise CreateOptionsInvalid(f"{_NAME} has at most {CHUNK_CHARACTERS * CHUNKS_MAX} characters, not {len(text)}")
    return {_NAME if number == 0 else f"{_NAME}{number:02}": part for number, part in enumerate(parts)}


def parse(text: str) -> JsonObject:
    """Return the object in a joined text; empty for blank text and `null`.

    Raises:
        CreateOptionsInvalid: the text is not JSON, or not a JSON object.
    """
    try:
        value = msgspec.json.decode(text) if text.strip() else None
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise CreateOptionsInvalid(f"{_NAME} is not JSON: {error}") from error
    except RecursionError as error:
        raise CreateOptionsInvalid(f"{_NAME} is nested too deeply") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CreateOptionsInvalid(f"{_NAME} must be a JSON object, not {type(value).__name__}")
    return value


def _wrong(what: str) -> CreateOptionsInvalid:
    # The messages about chunks are those of the agent (contract/edge.md §1.1, createOptions chunking).
    return CreateOptionsInvalid(f'Error while parsing chunked field "{_NAME}", {what}')


def _shown(number: str) -> str:
    # The number comes from the manifest and can have any length.
    return number if len(number) <= len(str(CHUNKS_MAX)) else number[:3] + "…"
