"""Compressed documents: a byte that names the dictionary, and raw deflate data (RFC 1951) that refers to the dictionary.

Dictionaries are files of this package. A released one is never changed: stored documents need it. A better one is a new file.
"""

import zlib
from importlib.resources import files

DICTIONARY = 1
"""The number of the dictionary of new documents; a stored document begins with the number of its own."""

# Measured over documents of 400 to 4,000 bytes (docs/decisions/0062). Each document starts with a copy of the compressor, whose
# window holds the dictionary: one of 16 KiB saves 5 % of the bytes, and takes 25 % more time. Level 6 saves 6 to 9 % of the
# bytes, and takes 1.5 times as long.
_LEVEL, _WINDOW_BITS, _MEMORY_LEVEL = 3, 13, 6
_NUMBERS_MAX = 31
"""Numbers are control characters: no digit, which ends the time before a document, and no `{`."""


def _dictionary(number: int) -> bytes:
    return files("events.log").joinpath("dictionaries", f"{number}.zdict").read_bytes()


def _numbers() -> list[int]:
    names = (entry.name for entry in files("events.log").joinpath("dictionaries").iterdir())
    return [int(name.removesuffix(".zdict")) for name in names if name.endswith(".zdict")]


# Copied for each document: to prepare a dictionary takes longer than to compress a document.
_compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, -_WINDOW_BITS, _MEMORY_LEVEL, zdict=_dictionary(DICTIONARY))
_decompressors = {number: zlib.decompressobj(-_WINDOW_BITS, zdict=_dictionary(number)) for number in _numbers()}
assert all(0 < number <= _NUMBERS_MAX for number in _decompressors)


def compressed(document: bytes) -> bytes:
    """A document in its compressed form."""
    compressor = _compressor.copy()
    return b"%c%b%b" % (DICTIONARY, compressor.compress(document), compressor.flush())


def decompressed(stored: bytes) -> bytes:
    """The document of a stored form, which is compressed or plain JSON.

    Bytes that are neither are returned as they are. They are no JSON, so that decoding them is an error, and a comparison
    with the document from the log finds the difference.
    """
    prepared = _decompressors.get(stored[0]) if stored else None
    if prepared is None:
        return stored
    decompressor = prepared.copy()
    try:
        document = decompressor.decompress(memoryview(stored)[1:])
    except zlib.error:
        return stored
    return document if decompressor.eof and not decompressor.unused_data else stored
