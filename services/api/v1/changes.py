"""What changed between two moments, and what made it so: of a device, of a deployment, or of the whole fleet."""

import heapq
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET
from pyroaring import BitMap

from events.canonical import JsonObject
from events.deployment.errors import DeploymentNotFound
from events.deployment.state import DeploymentDocument, decode
from events.device.errors import DeviceNotFound
from events.device.state import DeviceDocument, decode_device
from events.envelope import Envelope
from events.fleet.deployments import deployment_of
from events.fleet.outcome import Outcome
from events.fleet.rows import NO_ROW, Row
from events.history.moment import Moment
from events.log.errors import UnreadableFact
from events.log.fleet_documents import deployments
from events.log.keys import FLEET, device_of, name, partition_of
from events.log.scan import Wanted, scan
from events.preview.difference import differences
from events.rollout.state import ROLLOUT
from events.view_store.device_pages import device_ids
from events.view_store.port import Selection
from events.views.reading import STATUS_ARRAYS, STATUS_HASHES, PartitionReading
from services.api.context.api_context import Room

SHOWN_MAX = 100
"""Devices of a list that are named; every list says how many there are."""
FACTS_MAX = 1000
"""Facts that are told, the newest ones; the answer says how many there are."""
_STATUSES = ("target", "actual")
_OUTCOMES = 500


class Between(msgspec.Struct, frozen=True):
    """Two moments of a fleet: the rooms of both, and the fleet's facts that lie between."""

    before: Room
    after: Room
    fleet_facts: tuple[Envelope[Any], ...]

    @property
    def moments(self) -> tuple[Moment, Moment]:
        """When."""
        assert self.before.moment is not None
        assert self.after.moment is not None
        return self.before.moment, self.after.moment


# -- a device


def of_device(both: Between, device_id: str, *, left_out: Collection[int] = ()) -> JsonObject:
    """A device's tags, properties, identity, standing and configuration, with the facts and outcomes that changed them.

    `left_out` are positions of its partition that an operator decided to leave out.

    Raises:
        DeviceNotFound: it was there at neither moment.
        UnreadableFact: an entry of it lacks what facts have.
    """
    if device_of(device_id) != device_id:
        raise DeviceNotFound(device_id)  # A module has a document as well.
    before, after = _sections(both.before, device_id), _sections(both.after, device_id)
    if not before and not after:
        raise DeviceNotFound(device_id)
    layers = {one for room in (both.before, both.after) for one in _layers(room, device_id)}
    facts = (_facts_of_device(both, device_id, left_out), _facts_of_fleet(both, layers), _outcomes(both, device_id))
    return {"changes": _changes(before, after), **_told(itertools.chain(*facts))}


def _sections(room: Room, device_id: str) -> dict[str, JsonObject]:
    document = _document(room, device_id)
    if document is None:
        return {}
    found: dict[str, JsonObject] = {
        "identity": {
            "enabled": document.enabled,
            "statusReason": document.status_reason,
            "edge": document.edge,
            "generation": document.generation,
            **({"parentScope": document.parent_scope} if document.parent_scope else {}),
        },
        "tags": msgspec.json.decode(document.tags),
        "desired": msgspec.json.decode(document.desired),
        "reported": msgspec.json.decode(document.reported),
    }
    effective = room.view.effective(device_id)
    if effective is not None:
        row = effective.row
        found["assignment"] = {
            "standing": row.standing.value,
            "reason": row.reason,
            "layers": [layer.id for layer in row.stack],
            "versions": row.module_versions,
        }
        if effective.own is not None:
            found["configured"] = effective.own
        found |= {f"modules/{module}": section for module, section in effective.modules.items()}
    return found


def _document(room: Room, device_id: str) -> DeviceDocument | None:
    (stored,) = room.log.load([device_id])
    document = None if stored.snapshot is None else decode_device(stored.snapshot)
    return None if document is None or document.retired else document


def _layers(room: Room, device_id: str) -> set[str]:
    effective = room.view.effective(device_id)
    return set() if effective is None else {layer.id for layer in effective.row.layers}


class _Fact(NamedTuple):
    """A fact or an outcome in the order in which they are told; what it says is not looked at."""

    at: int
    stream: str
    position: int
    by: str
    type: str
    subject: str
    cause: str

    def shape(self) -> JsonObject:
        """As the answer has it."""
        return {
            "position": f"{self.stream}:{self.position}",
            "at": self.at,
            "by": self.by,
            "type": self.type,
            "subject": self.subject,
            "cause": self.cause,
        }


def _facts_of_device(both: Between, device_id: str, left_out: Collection[int]) -> Iterator[_Fact]:
    number = partition_of(device_id, both.after.log.partitions)
    first, last = (moment.positions[number] for moment in both.moments)
    stream = name(number)
    wanted = Wanted(devices=frozenset({device_id}))
    for entry in scan(both.after.streams, stream, wanted, after=first, upto=last):
        if entry.position in left_out:
            continue
        try:
            by, kind, subject, cause = (entry.fields[one].decode() for one in (b"by", b"type", b"subject", b"cause"))
            yield _Fact(int(entry.fields[b"at"]), stream, entry.position, by, kind, subject, cause)
        except (KeyError, ValueError) as error:
            raise UnreadableFact(stream, entry.position, str(error)) from error


def _facts_of_fleet(both: Between, names: Iterable[str] | None = None) -> Iterator[_Fact]:
    some = None if names is None else set(names)
    for one in both.fleet_facts:
        if some is None or deployment_of(one.subject) in some:
            kind = type(one.fact).__name__
            yield _Fact(one.at, name(FLEET), one.position, str(one.by), kind, one.subject, one.cause)


def _outcomes(both: Between, device_id: str) -> Iterator[_Fact]:
    number = partition_of(device_id, both.after.log.partitions)
    found = both.after.view.assignment(device_id) or both.before.view.assignment(device_id)
    if found is None:
        return
    stream, after = f"{name(number)}:outcomes", both.before.views.checkpoint(number).outcomes
    while entries := both.after.views.outcomes(number, after=after, limit=_OUTCOMES):
        after = entries[-1].position
        for one in entries:
            if _has(msgspec.json.decode(one.data, type=Outcome), found.ordinal):
                yield _Fact(one.at, stream, one.position, "system:project", "Outcome", device_id, one.cause)


def _has(outcome: Outcome, ordinal: int) -> bool:
    return any(ordinal in moved.ordinals() for moved in outcome.moves)


# -- a deployment


def of_deployment(both: Between, deployment_id: str) -> JsonObject:
    """A deployment's fields and rollout, the devices that it gained and lost, and the facts that changed it.

    Raises:
        DeploymentNotFound: it stood at neither moment.
    """
    if ":" in deployment_id:
        raise DeploymentNotFound(deployment_id)  # What has a colon in its name is another kind of subject.
    before, after = (_fields(room, deployment_id) for room in (both.before, both.after))
    if not before and not after:
        raise DeploymentNotFound(deployment_id)
    devices = {}
    for status in _STATUSES:
        gained, lost = Members(), Members()
        for number in range(both.after.log.partitions):
            old, new = (_status(room, number, deployment_id, status) for room in (both.before, both.after))
            lost.add(both.before, number, old - new)
            gained.add(both.after, number, new - old)
        devices[status] = {"lost": lost.shape(), "gained": gained.shape()}
    return {"changes": _changes(before, after), "devices": devices, **_told(_facts_of_fleet(both, [deployment_id]))}


def _status(room: Room, number: int, deployment_id: str, status: str) -> BitMap:
    kept = room.views.read(number, Selection(hashes=STATUS_HASHES, arrays=STATUS_ARRAYS))
    return PartitionReading(kept).status(deployment_id).named()[status]


def _fields(room: Room, deployment_id: str) -> dict[str, JsonObject]:
    stored, rolled = room.log.load([deployment_id, ROLLOUT + deployment_id], fleet=True)
    if stored.snapshot is None:
        return {}
    found = _fields_of(decode(stored.snapshot))
    if rolled.snapshot is not None:
        rollout = msgspec.json.decode(rolled.snapshot)
        found["rollout"] = {one: rollout.get(one) for one in ("state", "phase", "reason", "rollback")}
    return found


def _fields_of(document: DeploymentDocument) -> dict[str, JsonObject]:
    return {
        "deployment": {
            "targetCondition": document.target_condition,
            "priority": document.priority,
            "labels": dict(document.labels),
            "metrics": dict(document.metrics),
            "admission": type(document.admission).__name__,
            "schedule": None if document.schedule is UNSET else msgspec.to_builtins(document.schedule),
            "createdAt": document.created_at,
        },
        "content": document.content,
    }


# -- the fleet


def of_fleet(both: Between) -> JsonObject:
    """The deployments and devices that came and went, whose assignment changed from what to what, and the fleet's facts."""
    retired, registered, moved = Members(), Members(), dict[tuple[str, ...], Members]()
    for number in range(both.after.log.partitions):
        old, new = (_rows(room, number) for room in (both.before, both.after))
        retired.add(both.before, number, old.live - new.live)
        registered.add(both.after, number, new.live - old.live)
        for key, members in old.moved_to(new):
            moved.setdefault(key, Members()).add(both.after, number, members)
    stand = [dict(deployments(room.log)) for room in (both.before, both.after)]
    assignments = [
        {"before": msgspec.json.decode(was), "after": msgspec.json.decode(is_), **members.shape()}
        for (was, is_), members in sorted(moved.items(), key=lambda item: (-item[1].count, item[0]))
    ]
    changed = {one for one in stand[0].keys() & stand[1].keys() if stand[0][one] != stand[1][one]}
    return {
        "deployments": {
            "removed": sorted(stand[0].keys() - stand[1].keys()),
            "changed": sorted(changed),
            "added": sorted(stand[1].keys() - stand[0].keys()),
        },
        "devices": {"registered": {"lost": retired.shape(), "gained": registered.shape()}},
        "assignments": assignments,
        **_told(_facts_of_fleet(both)),
    }


class _Rows(msgspec.Struct, frozen=True):
    """Who is registered in a partition, and what each ordinal runs."""

    live: BitMap
    numbers: Any
    rows: dict[int, Row]

    def moved_to(self, other: "_Rows") -> Iterator[tuple[tuple[str, str], BitMap]]:
        """Those that are registered in both and do not run the same, by what they ran and run."""
        both = np.array(self.live & other.live, dtype=np.uint32)
        pairs = np.stack([_taken(self.numbers, both), _taken(other.numbers, both)], axis=1)
        for was, is_ in np.unique(pairs, axis=0).tolist() if len(both) else ():
            old, new = self.rows.get(was, NO_ROW), other.rows.get(is_, NO_ROW)
            if old != new:
                members = BitMap(both[(pairs[:, 0] == was) & (pairs[:, 1] == is_)])
                yield (_shown(old), _shown(new)), members


def _taken(numbers: Any, ordinals: Any) -> Any:
    padded = np.zeros(max(len(numbers), int(ordinals.max()) + 1 if len(ordinals) else 0), dtype=np.uint32)
    padded[: len(numbers)] = numbers
    return padded[ordinals]


def _shown(row: Row) -> str:
    layers = [layer.id for layer in row.layers]
    return msgspec.json.encode({"standing": row.standing.value, "layers": layers}).decode()


def _rows(room: Room, number: int) -> _Rows:
    kept = room.views.read(number, Selection(hashes=(*STATUS_HASHES, "rows"), arrays=STATUS_ARRAYS))
    rows = {int(field): msgspec.json.decode(data, type=Row) for field, data in kept.hashes["rows"].items()}
    numbers = np.frombuffer(kept.arrays["row_of"], dtype="<u4")
    return _Rows(PartitionReading(kept).set("live"), numbers, rows)


# -- what all of them tell


class Members:
    """Devices of a list: how many, and the first of them by their ids."""

    def __init__(self) -> None:
        self.count = 0
        self._shown: list[str] = []

    def add(self, room: Room, number: int, ordinals: BitMap) -> None:
        """Add some of a partition."""
        self.count += len(ordinals)
        some = BitMap(itertools.islice(ordinals, SHOWN_MAX - len(self._shown)))
        if some:
            self._shown += device_ids(room.views, number, some)

    def shape(self) -> JsonObject:
        """As the answer has it."""
        return {"count": self.count, "devices": sorted(self._shown)}


def _changes(before: dict[str, JsonObject], after: dict[str, JsonObject]) -> list[JsonObject]:
    return [
        {"section": one.module, "path": one.path, "how": one.how.value, "before": one.before, "after": one.after}
        for one in differences(before, after)
    ]


def _told(facts: Iterable[_Fact]) -> JsonObject:
    """The newest of them, and how many there are of everybody; no more of them are in memory at once."""
    newest: list[_Fact] = []
    by: Counter[str] = Counter()
    for one in facts:
        by[one.by] += 1
        if len(newest) < FACTS_MAX:
            heapq.heappush(newest, one)
        else:
            heapq.heappushpop(newest, one)
    return {
        "facts": [one.shape() for one in sorted(newest)],
        "factCount": by.total(),
        "by": dict(by.most_common()),
    }
