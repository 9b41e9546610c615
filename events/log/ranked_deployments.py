"""The ranks of the deployments in a log, for commands on one deployment that depend on how many and which others there are."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping

import msgspec
from msgspec import UNSET, UnsetType

from events.manifest.document import ContentKind, kind_of


class RankedDeployment(msgspec.Struct, frozen=True):
    """The members of a deployment's document that say how it ranks, and who may know of it."""

    priority: int
    layered: bool
    kind: ContentKind
    scope: str | UnsetType = UNSET


class _Document(msgspec.Struct, frozen=True):
    # Without the type of its values, a content is skipped instead of decoded: it is most of a document.
    priority: int
    layered: bool
    content: dict[str, msgspec.Raw]
    scope: str | UnsetType = UNSET


_decode = msgspec.json.Decoder(_Document).decode


class RankedDeployments:
    """The rank of every deployment, by id; of none at first. It does not change: `after` returns another one."""

    def __init__(self) -> None:
        self.by_id: Mapping[str, RankedDeployment] = {}
        # Of layers (true) and bases, ascending; configurations of single twins have no rivals.
        self._by_priority: dict[bool, list[tuple[int, str]]] = {True: [], False: []}

    def __len__(self) -> int:
        return len(self.by_id)

    def contradicting(self, rank: RankedDeployment) -> list[tuple[str, RankedDeployment]]:
        """The layers without a priority above a base, or the bases that a layer has no priority above, by id."""
        if rank.kind is not ContentKind.EDGE:
            return []
        rivals = self._by_priority[not rank.layered]
        if rank.layered:
            names = (name for _, name in rivals[bisect_left(rivals, (rank.priority, "")) :])
        else:
            names = (name for _, name in rivals[: bisect_left(rivals, (rank.priority + 1, ""))])
        return [(name, self.by_id[name]) for name in sorted(names)]

    def after(self, documents: Iterable[tuple[str, bytes | None]]) -> "RankedDeployments":
        """The ranks with other documents of some deployments; `None` for one that does not exist."""
        result = RankedDeployments()
        result.by_id = by_id = dict(self.by_id)
        result._by_priority = {layered: list(pairs) for layered, pairs in self._by_priority.items()}
        for name, data in documents:
            previous = by_id.pop(name, None)
            if previous is not None and previous.kind is ContentKind.EDGE:
                pairs = result._by_priority[previous.layered]
                del pairs[bisect_left(pairs, (previous.priority, name))]
            if data is not None:
                rank = by_id[name] = rank_of(data)
                if rank.kind is ContentKind.EDGE:
                    insort(result._by_priority[rank.layered], (rank.priority, name))
        return result


def rank_of(data: bytes) -> RankedDeployment:
    """The rank of a deployment, from the canonical bytes of its document."""
    document = _decode(data)
    kinds = {name: True for name, value in document.content.items() if bytes(value) != b"null"}
    return RankedDeployment(document.priority, document.layered, kind_of(kinds), document.scope)


def is_deployment(subject: str) -> bool:
    """Whether a subject of the fleet's stream is a deployment: every other one has a prefix with a colon."""
    return ":" not in subject
