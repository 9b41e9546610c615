"""Erasing secrets for good: which ones something ever referred to, the event that says so, and the destruction of their keys."""

import enum
from collections.abc import Iterator

import msgspec
from redis.cluster import RedisCluster
from redis.exceptions import ResponseError

from events.canonical import Json
from events.log.connect import answering
from events.log.device_documents import registered_device
from events.log.keys import FLEET, name, partition_of
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from events.producer.errors import ProducerError
from events.producer.producer import Producer
from events.projection_store.device_pages import device_ids
from events.projection_store.port import ProjectionSelection
from events.projection_store.redis import RedisProjectionStore
from events.properties import SECRET
from events.secrets.errors import SecretErased, SecretNotFound
from events.secrets.port import SecretStore
from events.secrets.references import references
from events.stored_projection.partition_reader import configured
from events.stored_projection.stored_partition import StoredPartition
from events.webhook.state import WEBHOOK

_MARK = f'"{SECRET}"'.encode()
_TWINS = (b"TwinPatched", b"TwinReplaced")
_DOCUMENTS = 1000
_DEVICES_NAMED = 5


class SecretOwner(enum.Enum):
    """Whose secrets can be erased."""

    DEVICE = "device"
    DEPLOYMENT = "deployment"
    WEBHOOK = "webhook"


class NothingToErase(ProducerError):
    """It never had a secret, or all of them are erased."""

    def __init__(self, of: str) -> None:
        super().__init__(f"{of}: no secret of it is left to be erased; look at the name")
        self.of = of


class InUse(ProducerError):
    """Something needs these secrets to go on working."""

    def __init__(self, of: str, users: tuple[str, ...]) -> None:
        shown = ", ".join(users[:5])
        super().__init__(
            f"{of}: its secrets are in use by {shown}; remove that first, or insist (--even-in-use): it stops working"
        )
        self.of, self.users = of, users


class FileKeepsErased(ProducerError):
    """The secrets are destroyed, and the file that Redis keeps on its disk still has them."""

    def __init__(self, of: str, why: str) -> None:
        super().__init__(
            f"{of}: its secrets are erased, but Redis does not write its append-only file anew, which still has them:"
            f" {why}; run BGREWRITEAOF on each server yourself"
        )
        self.of, self.why = of, why


class Erasable(msgspec.Struct, frozen=True):
    """Secrets that something referred to, ever, and that are not erased; `users` are those who need them as things stand."""

    of: str
    ids: tuple[str, ...]
    users: tuple[str, ...]


def erasable(
    log: RedisLog, store: SecretStore, kind: SecretOwner, subject: str, *, tags_alone: bool = False
) -> Erasable:
    """What can be erased of a device (of its tags alone, or of its keys, too), a deployment or a webhook.

    The whole history of the subject is read, archive included: former keys count as well.

    Raises:
        NothingToErase: nothing of it is there.
        LogUnavailable, LogLostItsTail, ObjectStoreUnavailable: the history cannot be read.
    """
    of = f"{kind.value}:{subject}"
    found = dict.fromkeys(_ever(log, kind, subject, tags_alone=tags_alone))
    left = tuple(secret_id for secret_id in found if _is_there(store, secret_id))
    if not left:
        raise NothingToErase(of)
    return Erasable(of, left, tuple(_users(log, kind, subject, frozenset(left), tags_alone=tags_alone)))


def erase(log: RedisLog, store: SecretStore, producer: Producer, what: Erasable, *, reason: str) -> None:
    """Record the erasure, then destroy each secret's data key, and have Redis write its append-only file anew without them.

    When it breaks off in between, the same again completes it. What is erased is told by the event, also to a restore.

    Raises:
        DecisionInvalid, LogUnavailable, SecretsUnavailable: it may be recorded, and not be done.
        FileKeepsErased: it is done, but for the file on the disk.
    """
    producer.record_erasure(what.of, what.ids, reason=reason)
    for secret_id in what.ids:
        store.destroy(secret_id)
    client = log.client
    # Until it is rewritten the file on the disk has what was destroyed; one that is being rewritten already has it again.
    nodes = client.get_nodes() if isinstance(client, RedisCluster) else None  # type: ignore[no-untyped-call, unused-ignore]
    everywhere = {} if nodes is None else {"target_nodes": nodes}
    try:
        with answering():
            client.bgrewriteaof(**everywhere)
    except ResponseError as error:
        raise FileKeepsErased(what.of, str(error)) from error


def _ever(log: RedisLog, kind: SecretOwner, subject: str, *, tags_alone: bool) -> Iterator[str]:
    of_device = kind is SecretOwner.DEVICE
    wanted = (WEBHOOK + subject if kind is SecretOwner.WEBHOOK else subject).encode()
    stream = name(partition_of(subject, log.partitions) if of_device else FLEET)
    for entry in RawStreams(log.client).entries(stream):
        about = entry.fields.get(b"subject", b"")
        if (about.partition(b"/")[0] if of_device else about) != wanted or _MARK not in entry.fields.get(b"data", b""):
            continue
        if tags_alone and entry.fields.get(b"type") not in _TWINS:
            continue
        if kind is SecretOwner.DEPLOYMENT and not entry.fields.get(b"type", b"").startswith(b"Deployment"):
            continue
        value: Json = msgspec.json.decode(entry.fields[b"data"])
        yield from sorted(references(value.get("tags") if tags_alone and isinstance(value, dict) else value))


def _is_there(store: SecretStore, secret_id: str) -> bool:
    try:
        store.sealed([secret_id])
    except (SecretErased, SecretNotFound):
        return False
    return True


def _running(log: RedisLog, ids: frozenset[str]) -> Iterator[str]:
    """The devices whose configuration refers to one of these secrets: devices keep the last one when nothing targets them.

    Some are named, and the others counted, in one text.
    """
    projections, names, count = RedisProjectionStore(log.client), list[str](), 0
    for number in range(log.partitions):
        # Few partitions have any: the larger part is read of those alone.
        if not _referring(ids, projections.read(number, ProjectionSelection(hashes=("configurations",)))):
            continue
        kept = projections.read(
            number, ProjectionSelection(hashes=("configurations", "assignments", "sets"), arrays=("assignment_of",))
        )
        devices = configured(_referring(ids, kept), kept)
        count += len(devices)
        if some := devices[: _DEVICES_NAMED - len(names)]:
            names += device_ids(projections, number, some)
    if names:
        others = f" and {count - len(names)} more" if count > len(names) else ""
        yield f"device:{', '.join(names)}{others} (still run it)"


def _referring(ids: frozenset[str], kept: StoredPartition) -> list[str]:
    configurations = kept.hashes["configurations"].items()
    return [digest for digest, data in configurations if _MARK in data and ids & references(msgspec.json.decode(data))]


def _users(log: RedisLog, kind: SecretOwner, subject: str, ids: frozenset[str], *, tags_alone: bool) -> Iterator[str]:
    """Who has a document with one of these secrets as it stands, or runs what has one; what only shows them is no user."""
    if kind is SecretOwner.DEVICE:
        if not tags_alone and registered_device(log, subject) is not None:
            yield f"device:{subject} (registered)"
        return
    if kind is SecretOwner.DEPLOYMENT:
        yield from _running(log, ids)
    names = list(log.subjects(FLEET))
    for start in range(0, len(names), _DOCUMENTS):
        some = names[start : start + _DOCUMENTS]
        for one, stored in zip(some, log.load(some, fleet=True), strict=True):
            if stored.snapshot and _MARK in stored.snapshot and ids & references(msgspec.json.decode(stored.snapshot)):
                yield one
