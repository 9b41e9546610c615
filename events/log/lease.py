"""Leases: a key in Redis that one process at a time holds for a limited time; without Redis, they raise `LogUnavailable`."""

import secrets

from events.log.connect import Client, answering
from events.log.keys import FLEET, key

LEASE_MS = 3000

# Redis stores when a key expires by its machine's clock. A clock that was ahead and is set back leaves a key that outlives its
# time, so a key with more time left than a holder may ask for counts as expired.
_TAKE = """
local left = redis.call('PTTL', KEYS[1])
if left == -2 or left > tonumber(ARGV[2]) then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return 1
end
return 0
"""

# The counter of fences is a key of its own. If only that key is lost, a new fence would be below one that the stream has seen,
# and every write would be rejected; so a new fence is above both.
_HOLD = """
local holder = redis.call('HGET', KEYS[1], 'holder')
if holder == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return tonumber(redis.call('HGET', KEYS[1], 'fence'))
end
if holder and redis.call('PTTL', KEYS[1]) <= tonumber(ARGV[2]) then return 0 end
local used = tonumber(redis.call('HGET', KEYS[3], 'fence') or '0')
local fence = tonumber(redis.call('INCR', KEYS[2]))
if fence <= used then
  fence = used + 1
  redis.call('SET', KEYS[2], fence)
end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'fence', fence)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return fence
"""

_LEAVE = """
if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""


class Lease:
    """The right of one process to do work that no two processes may do, with a fence that is higher for each new holder.

    A holder that does not renew the lease within `milliseconds` loses it.
    """

    # A holder whose process slept (SIGSTOP, a paused virtual machine) does not know that it lost the lease. So each write
    # carries the fence, and the stream rejects an older one (`Log.append`).

    def __init__(self, client: Client, name: str, *, milliseconds: int = LEASE_MS, used_in: str | None = None) -> None:
        """`used_in` is the hash in the fleet's slot whose `fence` is the highest one used; `None`: no write is fenced."""
        self._client, self._key, self._milliseconds = client, key(FLEET, f"lease:{name}"), milliseconds
        used = self._key if used_in is None else key(FLEET, used_in)
        self._keys = (self._key, f"{self._key}:fence", used)
        self._holder = secrets.token_hex(8)

    def take(self) -> int | None:
        """Take or renew the lease; returns the fence (from 1), or `None` while another process has it."""
        with answering():
            fence = int(self._client.eval(_HOLD, len(self._keys), *self._keys, self._holder, str(self._milliseconds)))
        return fence or None

    def leave(self) -> None:
        """Release the lease, so that another process need not wait until it expires."""
        with answering():
            self._client.eval(_LEAVE, 1, self._key, self._holder)


def take_for(client: Client, name: str, holder: str, milliseconds: int) -> bool:
    """Take a key for a number of milliseconds; false if it has a holder, even if that is the same one."""
    with answering():
        return bool(client.eval(_TAKE, 1, name, holder, str(milliseconds)))
