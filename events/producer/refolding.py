"""The documents that stand as snapshots, folded again from the facts alone."""

from collections.abc import Iterable

from events.envelope import Envelope
from events.log.documents import Documents
from events.log.port import Fact


def refold(facts: Iterable[Envelope[Fact]]) -> dict[str, bytes]:
    """Every document of one stream by its subject, from the stream's first fact on; equal to its snapshots, byte for byte."""
    documents = Documents()
    documents.fold(facts)
    return documents.encoded()
