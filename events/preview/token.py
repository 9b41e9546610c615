"""What a preview's token says: what was asked, by whom, what would happen, and as of where."""

from collections.abc import Mapping

import msgspec

from events import canonical
from events.envelope import Vector
from events.number_text import counted
from events.preview.errors import PreviewDiffers, PreviewTokenInvalid
from events.preview.imagined_events import Imagined
from events.preview.preview_result import PreviewResult

_LISTS_MAX = 60
_RANGES_MAX = 64

Summary = dict[str, tuple[int, str]]


class Token(msgspec.Struct, frozen=True, array_like=True):
    """Opened. `result` and `events` are digests of all that would happen; `lists` the longest lists, to say what differs.

    `positions` are those of the partitions from the first on, 0 where none was looked at, and `fleet` the fleet's.
    """

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
        cls, result: PreviewResult, events: Imagined, *, commands: str, author: str, partitions: int, until: int
    ) -> "Token":
        """The token of a preview; `until` is in milliseconds."""
        summary = result.summary()
        longest = sorted(summary.items(), key=lambda item: (-item[1][0], item[0]))[:_LISTS_MAX]
        vectors = result.vectors
        return cls(
            commands,
            author,
            events.digest.hex(),
            _digest(result, summary),
            dict(longest),
            tuple(vectors.get(number, Vector()).partition for number in range(partitions)),
            min((one.fleet for one in vectors.values()), default=0),
            until,
        )

    def check(self, *, commands: str, author: str, now: int) -> None:
        """Insist that the token was given to somebody for these commands, and lately.

        Raises:
            PreviewTokenInvalid: it was not.
        """
        if now > self.until:
            raise PreviewTokenInvalid("is too old")
        if author != self.author:
            raise PreviewTokenInvalid("was given to somebody else")
        if commands != self.commands:
            raise PreviewTokenInvalid("is of other commands")

    def compare(self, result: PreviewResult, events: Imagined) -> str:
        """Insist that the result is what was shown; answers where events came in since, as in `fleet:18-19 p03:12-40`.

        Raises:
            PreviewDiffers: says in what.
        """
        summary = result.summary()
        if (self.events, self.result) != (events.digest.hex(), _digest(result, summary)):
            raise PreviewDiffers(
                _differences(self.lists, summary) or ["other events would be written, or other configurations follow"]
            )
        return _between(self, result.vectors)

    def to_text(self) -> str:
        """To be sealed."""
        return canonical.encode(self).decode()

    @classmethod
    def from_text(cls, text: str) -> "Token":
        """Read what `to_text` wrote."""
        return msgspec.json.decode(text, type=cls)


def _digest(result: PreviewResult, summary: Summary) -> str:
    changes = [(one.name, one.module, one.before.digest, one.after.digest) for one in result.changes]
    return canonical.digest([changes, summary, result.held])


def _differences(shown: Mapping[str, tuple[int, str]], now: Mapping[str, tuple[int, str]]) -> list[str]:
    said = []
    for name in sorted(shown.keys() | now.keys()):
        (was, who), (will, whom) = shown.get(name, (0, "")), now.get(name, (0, ""))
        if name not in shown and len(shown) == _LISTS_MAX:
            continue  # Not among the longest ones, which are all that a token has.
        if was != will:
            said.append(f"{name} had {counted(was, 'device')} and has {will} now")
        elif who != whom:
            said.append(f"{name} still has {counted(will, 'device')}, but others")
    return said


def _between(token: Token, now: Mapping[int, Vector]) -> str:
    ranges = []
    fleet = min((one.fleet for one in now.values()), default=token.fleet)
    if fleet > token.fleet:
        ranges.append(f"fleet:{token.fleet + 1}-{fleet}")
    for number, vector in sorted(now.items()):
        if number < len(token.positions) and vector.partition > token.positions[number]:
            ranges.append(f"p{number:02d}:{token.positions[number] + 1}-{vector.partition}")
    more = [f"and {len(ranges) - _RANGES_MAX} more"] if len(ranges) > _RANGES_MAX else []
    return " ".join([*ranges[:_RANGES_MAX], *more]) or "none"
