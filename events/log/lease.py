"""What one process at a time holds in Redis, for a while."""

import secrets

from events.log.connect import Client, answering
from events.log.keys import FLEET, key

LEASE_MS = 3000

# Redis keeps the end of a key by its machine's clock: one that was ahead for a while leaves keys that outlive their time. No
# holder has longer than it asked for.
_TAKE = """
local left = redis.call('PTTL', KEYS[1])
if left == -2 or left > tonumber(ARGV[2]) then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return 1
end
return 0
"""

# The fence is counted beside the lease, and never below one that was used.
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
    """One process's hold on work that one process at a time does, with a fence: each holder has a higher one than those before.

    A holder that does not take the lease again within `milliseconds` has lost it. It may not know that, as it slept; so what
    must not be done twice carries the fence, and who receives it refuses an older one (`Log.append`).
    """

    def __init__(self, client: Client, name: str, *, milliseconds: int = LEASE_MS, used_in: str | None = None) -> None:
        """`used_in` is the fleet's hash whose `fence` is the highest that was used; `None` where nothing is fenced."""
        self._client, self._key, self._milliseconds = client, key(FLEET, f"lease:{name}"), milliseconds
        used = self._key if used_in is None else key(FLEET, used_in)
        self._keys = (self._key, f"{self._key}:fence", used)
        self._holder = secrets.token_hex(8)

    def take(self) -> int | None:
        """Take the lease or keep it; answers the fence (from 1), or `None` while another process has it.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        with answering():
            fence = int(self._client.eval(_HOLD, len(self._keys), *self._keys, self._holder, str(self._milliseconds)))
        return fence or None

    def leave(self) -> None:
        """Give the lease up, so that another process need not wait for its end.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        with answering():
            self._client.eval(_LEAVE, 1, self._key, self._holder)


def take_for(client: Client, name: str, holder: str, milliseconds: int) -> bool:
    """Take a key that has no holder for so long; false where it has one, the same one included.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    with answering():
        return bool(client.eval(_TAKE, 1, name, holder, str(milliseconds)))
