"""Commands that are sent to a server at once, and whose answers are read later."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, cast

from hiredis import pack_command
from redis import Redis
from redis.exceptions import ResponseError

_MULTI, _EXEC = ("MULTI",), ("EXEC",)

Command = tuple[Any, ...]
"""The words of a command: text, bytes or numbers."""


class Exchange:
    """Commands on one connection of a client: sent when this is made, answered by `answers`, which must be called once.

    In between the server works on the commands while this process does something else. A pipeline of redis-py sends and waits
    in one step, and costs this process 50 to 100 µs more.
    """

    def __init__(self, client: Redis, groups: Iterable[Sequence[Command]]) -> None:
        """Send groups of commands, each as soon as it is made. The server executes a group of several as a transaction.

        Raises:
            RedisError: the server cannot be reached.
        """
        # As `Any`: redis-py annotates its connections in part.
        self._pool = cast("Any", client.connection_pool)
        self._counts = list[int]()
        self._connection = self._pool.get_connection()
        try:
            for commands in groups:
                self._counts.append(len(commands))
                words = commands if len(commands) == 1 else (_MULTI, *commands, _EXEC)
                # Packed by hiredis itself: redis-py looks at each word once more, which takes five times as long.
                self._connection.send_packed_command([b"".join(map(pack_command, words))])
        except BaseException:
            # Answers to the groups before may come.
            self._connection.disconnect()
            self._pool.release(self._connection)
            raise

    def answers(self) -> list[Any]:
        """The answers in the order of the commands.

        Raises:
            RedisError: the connection is lost, or an error that the server answered, after all answers are read.
        """
        answers, errors, is_complete = list[Any](), list[ResponseError](), False
        try:
            for count in self._counts:
                if count == 1:
                    self._read(answers, errors)
                else:
                    queued = list[Any]()
                    for _ in range(count + 1):
                        self._read(queued, errors)
                    transaction = list[list[Any]]()
                    self._read(transaction, errors)
                    for answer in itertools.chain.from_iterable(transaction):
                        (errors if isinstance(answer, ResponseError) else answers).append(answer)
            is_complete = True
        finally:
            # Closed by `read_response` if that fails, but not by an interrupt or the timeout of a job between two answers: the
            # next user of the connection would get the rest of them.
            if not is_complete:
                self._connection.disconnect()
            self._pool.release(self._connection)
        if errors:
            raise errors[0]
        return answers

    def _read(self, answers: list[Any], errors: list[ResponseError]) -> None:
        try:
            answers.append(self._connection.read_response())
        except ResponseError as error:
            errors.append(error)
