"""Requests that one batch writes get their own answers."""

import asyncio
import threading
from typing import Any, cast

from events import ConflictPersists, PatchTags, RegisterDevice
from events.envelope import Principal
from events.log.memory import MemoryLog
from events.producer.producer import Producer
from services.api.context.api_context import ApiContext
from services.api.context.batch_writer import BatchWriter, Written
from services.api.context.callers import Author
from tests import waiting

ADA, BO, EVE = (Author(Principal.parse(f"user:{name}")) for name in ("ada", "bo", "eve"))


class Context:
    """Producers on a log in memory; Ada's first waits, and Eve's fail."""

    def __init__(self) -> None:
        self.log, self.has_first, self.go_on = MemoryLog(), threading.Event(), threading.Event()

    def producer(self, author: Author) -> Producer:
        self.has_first.set()
        assert self.go_on.wait(waiting.seconds())

        def conflict(_: object) -> None:
            raise ConflictPersists(("hers",), 8)

        before_append: Any = conflict if author == EVE else lambda _: None
        return Producer(self.log, by=author.by, before_append=before_append)


def test_an_error_of_one_author_is_no_answer_to_another() -> None:
    context = Context()
    writer = BatchWriter(cast("ApiContext", context))

    async def requests() -> list[Any]:
        first = asyncio.ensure_future(writer.do(RegisterDevice("a"), ADA))
        # The writer has the first; the others wait, and come into one batch.
        assert await asyncio.to_thread(context.has_first.wait, waiting.seconds())
        others = [
            asyncio.ensure_future(writer.do(command, author))
            for command, author in (
                (RegisterDevice("b"), BO),
                (RegisterDevice("hers"), EVE),
                (PatchTags("a", {"n": 1}), BO),
            )
        ]
        await asyncio.sleep(0)  # Each of them runs until it waits for its answer.
        context.go_on.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    _, registered, failed, patched = asyncio.run(requests())
    assert isinstance(failed, ConflictPersists)
    assert [registered.document, patched.document] == context.log.load(["b", "a"])
    assert isinstance(patched, Written)
