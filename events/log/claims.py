"""Claims: which worker follows which stream. An append wakes the workers only for a stream that no worker follows."""

import os
import secrets
import socket
from collections.abc import Iterable, Sequence
from operator import methodcaller

from events.log.connect import Client, answering, answers_to
from events.log.keys import FLEET, key

WOKEN = "woken"
"""What an append writes where there is no claim (append.lua): the workers were woken, and none follows the stream yet."""
WOKEN_MS = 3000
"""How long an append keeps later ones from waking the workers again, if no worker takes the claim."""
CLAIM_MS = 3000
"""How long a claim lasts that its holder does not renew. Until then appends to the stream of a killed worker wake no other."""

# Redis stores when a key expires by its machine's clock: after that was set back, a key can outlive its time. So a key with more
# time left than a holder may ask for counts as expired, as in lease.py.
_TAKE = """
local holder = redis.call('GET', KEYS[1])
local renewed = holder == ARGV[1]
if holder and not renewed and holder ~= ARGV[3] and redis.call('PTTL', KEYS[1]) <= tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return renewed and 2 or 1
"""

# Likewise a claim that outlives its time gives way: its holder may be gone, and turns pass over streams that another one claims.
_MARK = """
local left = redis.call('PTTL', KEYS[1])
if left >= 0 and left <= tonumber(ARGV[3]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

_LEAVE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class Claims:
    """The claims of the streams of one log; `holder` is the name of this process in them.

    A claim saves work and protects nothing: two workers that follow the same partition are told apart by their commits.
    """

    def __init__(self, client: Client, *, partitions: int) -> None:
        self._client, self.streams = client, (FLEET, *range(partitions))
        self.holder = f"{process_name(os.getpid())}:{secrets.token_hex(4)}"

    def holders(self) -> dict[int, str]:
        """Who follows each stream: the holder's name, or `WOKEN`. Streams without either are omitted.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        with answering():
            # Not a transaction, so that a cluster can answer too.
            pipe = self._client.pipeline(transaction=False)
            for stream in self.streams:
                pipe.get(key(stream, "wake"))
            answers = pipe.execute()
        return {stream: holder.decode() for stream, holder in zip(self.streams, answers, strict=True) if holder}

    def take(self, streams: Iterable[int]) -> dict[int, bool]:
        """Take or renew the claims of streams, except where another process holds one.

        Returns the streams that this process holds now; true if it held them before.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        streams = list(streams)
        answers = self._each(_TAKE, streams, self.holder, str(CLAIM_MS), WOKEN)
        return {stream: answer > 1 for stream, answer in zip(streams, answers, strict=True) if answer}

    def mark_woken(self, streams: Iterable[int]) -> None:
        """Mark streams that no worker follows as woken, as an append does: the next turn takes them before all others.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        self._each(_MARK, list(streams), WOKEN, str(WOKEN_MS), str(CLAIM_MS))

    def leave(self, streams: Iterable[int], *, holder: str = "") -> None:
        """Give up the claims of streams that `holder` has (default: this process).

        Raises:
            LogUnavailable: Redis did not answer.
        """
        self._each(_LEAVE, list(streams), holder or self.holder)

    def leave_for(self, process: str) -> None:
        """Give up all claims of a process that has ended, so that its streams need not wait until the claims expire.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        for stream, holder in self.holders().items():
            if holder.startswith(f"{process}:"):
                self.leave([stream], holder=holder)

    def _each(self, script: str, streams: Sequence[int], *arguments: str) -> list[int]:
        # EVAL, as a pipeline cannot load a script that the server does not have.
        keys = [key(stream, "wake") for stream in streams]
        with answering():
            return answers_to(self._client, [methodcaller("eval", script, 1, name, *arguments) for name in keys])


def process_name(pid: int) -> str:
    """The beginning of the holder's name of a process on this machine."""
    return f"{socket.gethostname()}:{pid}"
