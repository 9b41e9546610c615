"""What one process at a time does, whoever of several it is."""

import secrets

from events.log.connect import Client
from events.log.keys import FLEET, key
from events.log.lease import keep_for

LEASE_MS = 3000


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
        return keep_for(self._client, self._key, self._token, LEASE_MS)
