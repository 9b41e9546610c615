"""What one process at a time does, whoever of several it is."""

import secrets

from events.log.connect import Client, answering
from events.log.keys import FLEET, key

LEASE_MS = 3000

_RENEW = """
local holder = redis.call('GET', KEYS[1])
if holder == false or holder == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return 1
end
return 0
"""


class Lease:
    """A lease by name; whoever does not renew it within three seconds has lost it."""

    def __init__(self, client: Client, name: str) -> None:
        self._client, self._key = client, key(FLEET, f"lease:{name}")
        self._token = secrets.token_hex(8)

    def renew(self) -> bool:
        """Take the lease or keep it; false where somebody else has it.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        with answering():
            return bool(self._client.eval(_RENEW, 1, self._key, self._token, LEASE_MS))
