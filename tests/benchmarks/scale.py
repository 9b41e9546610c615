"""How big a run is, and who says how far it has come."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

T = TypeVar("T")
_EVERY = 50_000


class Scale(msgspec.Struct, frozen=True):
    """`devices` of the large fleet, `deployments` in it and in one partition of it, which has `partition_devices`."""

    devices: int
    deployments: int
    partition_devices: int
    events: int
    probes: int


def print_lines(text: str) -> None:
    """Progress goes to standard error, so that `--json` stays readable."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def counted(what: str, items: Iterable[T]) -> Iterator[T]:
    """The items, with a line every now and then."""
    for number, item in enumerate(items, 1):
        yield item
        if number % _EVERY == 0:
            print_lines(f"  {what}: {number:,}")
