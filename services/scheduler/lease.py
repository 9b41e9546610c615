"""Who schedules, and who seals: one process at a time, with a fence that whoever comes after it has a higher one of."""

import secrets

from events.log.connect import answering
from events.log.keys import FLEET, key
from events.log.redis import RedisLog

LEASE_MS = 5000

# The fence is counted beside the log, and never below one that the log has seen.
_TAKE = """
local holder = redis.call('HGET', KEYS[1], 'holder')
if holder == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return tonumber(redis.call('HGET', KEYS[1], 'fence'))
end
-- No holder has longer than it asked for: a key that outlives its time was set while the clock was ahead.
if holder and redis.call('PTTL', KEYS[1]) <= tonumber(ARGV[2]) then return 0 end
local seen = tonumber(redis.call('HGET', KEYS[3], 'fence') or '0')
local fence = tonumber(redis.call('INCR', KEYS[2]))
if fence <= seen then
  fence = seen + 1
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
    """One process's hold on something, scheduling if nothing else is said."""

    def __init__(self, log: RedisLog, name: str = "scheduler", *, seen: str = "meta") -> None:
        """`seen` is the fleet's hash whose `fence` is the highest that was used."""
        self._log, self._lease = log, key(FLEET, f"lease:{name}")
        self._keys = (self._lease, key(FLEET, f"fence:{name}"), key(FLEET, seen))
        self._holder = secrets.token_hex(8)

    def take(self) -> int | None:
        """Take or keep the lease for LEASE_MS; answers the fence, or `None` while another process has it.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        with answering():
            fence = int(self._log.client.eval(_TAKE, len(self._keys), *self._keys, self._holder, LEASE_MS))
        return fence or None

    def leave(self) -> None:
        """Give the lease up, so that another process need not wait for its end.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        with answering():
            self._log.client.eval(_LEAVE, 1, self._lease, self._holder)
