"""The token of a preview: its commands, author, result and vectors."""

from collections.abc import Mapping

import msgspec

from events import canonical
from events.envelope import Vector
from events.number_text import counted
from events.preview.errors import PreviewDiffers, PreviewTokenInvalid
from events.preview.imagined_log import ImaginedEvents
from events.preview.preview_result import PreviewResult

_LISTS_MAX = 60
_RANGES_MAX = 64

Summary = dict[str, tuple[int, str]]


class PreviewToken(msgspec.Struct, frozen=True, array_like=True):
    """The content of a token. `result` and `events` are digests; `lists` has the longest lists, to name what differs.

    `positions` are those of all partitions, 0 for a partition that was not previewed; `fleet` is the fleet's position.
    """

    # The token travels in a header, so it has digests and the 60 longest lists instead of the whole result.

    commands: str
    author: str
    events: str
    result: str
    lists: Summary
    positions: tuple[int, ...]
    fleet: int
    until: int

    @classmethod
    def of(
        cls, result: PreviewResult, events: ImaginedEvents, *, commands: str, author: str, partitions: int, until: int
    ) -> "PreviewToken":
        """The token of a preview; `until` is in milliseconds."""
        summary, vectors = result.summary(), result.vectors
        return cls(
            commands,
            author,
            events.digest.hex(),
            _digest(result, summary),
            dict(sorted(summary.items(), key=lambda item: (-item[1][0], item[0]))[:_LISTS_MAX]),
            tuple(vectors.get(number, Vector()).partition for number in range(partitions)),
            min((vector.fleet for vector in vectors.values()), default=0),
            until,
        )

    def check(self, *, commands: str, author: str, now: int) -> None:
        """Check that the token is for these commands and this author, and has not expired.

        Raises:
            PreviewTokenInvalid: it is not.
        """
        if now > self.until:
            raise PreviewTokenInvalid("has expired")
        if author != self.author:
            raise PreviewTokenInvalid("was issued to another caller")
        if commands != self.commands:
            raise PreviewTokenInvalid("was issued for other commands")

    def compare(self, result: PreviewResult, events: ImaginedEvents) -> str:
        """Check that the result is the previewed one; returns the events since, as in `fleet:18-19 p03:12-40`, or `none`.

        Raises:
            PreviewDiffers: it is not; the message has the differences.
        """
        summary = result.summary()
        if (self.events, self.result) != (events.digest.hex(), _digest(result, summary)):
            other = ["other events would be written, or devices would get other configurations"]
            raise PreviewDiffers(_differences(self.lists, summary) or other)
        return _between(self, result.vectors)


def _digest(result: PreviewResult, summary: Summary) -> str:
    changes = [(change.name, change.module, change.before.digest, change.after.digest) for change in result.changes]
    return canonical.digest([changes, summary, result.over_limit_reasons])


def _differences(previewed: Mapping[str, tuple[int, str]], now: Mapping[str, tuple[int, str]]) -> list[str]:
    sentences = []
    for name in sorted(previewed.keys() | now.keys()):
        (count_before, digest_before), (count_now, digest_now) = previewed.get(name, (0, "")), now.get(name, (0, ""))
        if name not in previewed and len(previewed) == _LISTS_MAX:
            continue  # The token has only the longest lists, so it cannot tell whether this one differs.
        if count_before != count_now:
            sentences.append(f"{name} had {counted(count_before, 'device')} and now has {count_now}")
        elif digest_before != digest_now:
            sentences.append(f"{name} still has {counted(count_now, 'device')}, but different ones")
    return sentences


def _between(token: PreviewToken, now: Mapping[int, Vector]) -> str:
    ranges = []
    fleet = min((vector.fleet for vector in now.values()), default=token.fleet)
    if fleet > token.fleet:
        ranges.append(f"fleet:{token.fleet + 1}-{fleet}")
    for number, vector in sorted(now.items()):
        if number < len(token.positions) and vector.partition > token.positions[number]:
            ranges.append(f"p{number:02d}:{token.positions[number] + 1}-{vector.partition}")
    more = [f"and {len(ranges) - _RANGES_MAX} more"] if len(ranges) > _RANGES_MAX else []
    return " ".join([*ranges[:_RANGES_MAX], *more]) or "none"
