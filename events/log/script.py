"""Scripts that run by their digest."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from redis.exceptions import NoScriptError

from events.log.connect import Client


class Script:
    """A Lua script; its text is sent to a server only if the server does not have it."""

    # redis-py's own class loads a script that is missing into all masters of a cluster: while one of them is away, no script
    # runs anywhere, and a master that receives its first slot, which redis-py does not know yet, is left out. EVAL goes where
    # the keys are, and the server keeps the script.

    def __init__(self, client: Client, text: str) -> None:
        self._client, self._text = client, text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, keys: Sequence[str], arguments: Iterable[Any]) -> Any:
        """Run the script on keys of one stream; returns its answer."""
        keys_and_arguments = (*keys, *arguments)
        try:
            return self._client.evalsha(self.digest, len(keys), *keys_and_arguments)
        except NoScriptError:
            return self._client.eval(self._text, len(keys), *keys_and_arguments)
