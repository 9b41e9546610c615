"""How simulated devices behave: most answer soon, a few are slow, a few fail, one never answers."""

import enum
import zlib

import msgspec


class BehaviourKind(enum.Enum):
    """The kind of a simulated device."""

    PROMPT = "prompt"
    SLOW = "slow"
    FAILING = "failing"
    SILENT = "silent"


class Behaviour(msgspec.Struct, frozen=True):
    """A device's kind, and how long it takes to answer."""

    kind: BehaviourKind
    delay_seconds: float


_PROMPT_SECONDS = 0.2
_SLOW_SECONDS = 2.0


def behaviour_of(device_id: str, *, silent: frozenset[str] = frozenset()) -> Behaviour:
    """The behaviour of a device: 1 in 100 is slow, 1 in 100 fails."""
    if device_id in silent:
        return Behaviour(BehaviourKind.SILENT, 0.0)
    # A checksum, as Python's hash() of a text differs in each process: the same id behaves the same in every run.
    draw = zlib.crc32(device_id.encode())
    spread = (draw >> 16) / 0xFFFF
    match draw % 100:
        case 0:
            return Behaviour(BehaviourKind.SLOW, _SLOW_SECONDS * (1 + spread))
        case 1:
            return Behaviour(BehaviourKind.FAILING, _PROMPT_SECONDS * (1 + spread))
        case _:
            return Behaviour(BehaviourKind.PROMPT, _PROMPT_SECONDS * (1 + spread))
