"""Scripts that run by their digest."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from redis.exceptions import NoScriptError

from events.log.connect import Client
from events.log.exchange import Command


class ScriptText:
    """A Lua script. A call sends its digest of 40 bytes, and its text only to a server that does not have it."""

    # redis-py's own class loads a script that is missing into all masters of a cluster: while one of them is away, no script
    # runs anywhere, and a master that receives its first slot, which redis-py does not know yet, is left out. EVAL goes where
    # the keys are, and the server keeps the script.

    def __init__(self, text: str) -> None:
        self._text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def call(self, keys: Sequence[str], *arguments: Any) -> Command:
        """The command that runs the script by its digest, on keys of one stream."""
        return ("EVALSHA", self.digest, len(keys), *keys, *arguments)

    def with_text(self, call: Command) -> Command:
        """The same call, for a server that does not have the script."""
        return ("EVAL", self._text, *call[2:])


class Script(ScriptText):
    """A script with the client that runs it."""

    def __init__(self, client: Client, text: str) -> None:
        super().__init__(text)
        self._client: Any = client

    def __call__(self, keys: Sequence[str], arguments: Iterable[Any]) -> Any:
        """Run the script on keys of one stream; returns its answer."""
        call = self.call(keys, *arguments)
        try:
            return self._client.execute_command(*call)
        except NoScriptError:
            return self._client.execute_command(*self.with_text(call))
