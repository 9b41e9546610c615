"""Erases the secrets of a device, deployment or webhook: finds them, records the erasure, and destroys their keys."""

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
from events.projection_store.redis import RedisProjectionStore
from events.properties import SECRET
from events.secrets.owner import SecretOwner
from events.secrets.redis import RedisSecretStore
from events.secrets.references import references
from events.secrets.sealed_secret import Sealed
from events.stored_projection.partition_reader import configured
from events.stored_projection.stored_partition import StoredPartition
from events.webhook.state import WEBHOOK

_MARK = f'"{SECRET}"'.encode()
_DOCUMENTS = 1000
_DEVICES_NAMED = 5


class NothingToErase(ProducerError):
    """The owner never had a secret, or all of its secrets are erased."""

    def __init__(self, of: str) -> None:
        super().__init__(f"{of}: it has no secret to erase; check the name")
        self.of = of


class InUse(ProducerError):
    """A device, deployment or webhook still uses these secrets."""

    def __init__(self, of: str, users: tuple[str, ...]) -> None:
        named = ", ".join(users[:5])
        super().__init__(
            f"{of}: its secrets are in use by {named}; remove it first, or erase them with --even-in-use: it stops working"
        )
        self.of, self.users = of, users


class FileKeepsErased(ProducerError):
    """The secrets are destroyed, but Redis's append-only file on the disk still has them."""

    def __init__(self, of: str, why: str) -> None:
        super().__init__(
            f"{of}: its secrets are erased, but Redis did not rewrite its append-only file, which still has them:"
            f" {why}; run BGREWRITEAOF on each server yourself"
        )
        self.of, self.why = of, why


class Erasable(msgspec.Struct, frozen=True):
    """The secrets that an owner ever referred to and that are not erased; `users` are the things that still use them."""

    of: str
    ids: tuple[str, ...]
    users: tuple[str, ...]


def erasable(
    log: RedisLog, store: RedisSecretStore, kind: SecretOwner, subject: str, *, tags_alone: bool = False
) -> Erasable:
    """The secrets that can be erased of a device (with `tags_alone` only those in its tags), a deployment or a webhook.

    Raises:
        NothingToErase: no secret is left.
        LogUnavailable, LogLostItsTail, ObjectStoreUnavailable: the history cannot be read.
    """
    # The whole history, with the archive: a previous key or password is in no current document, and its ciphertext still exists.
    of = f"{kind.value}:{subject}"
    referenced = dict.fromkeys(_ever(log, kind, subject, tags_alone=tags_alone))
    stored = store.left(referenced)
    left = tuple(secret_id for secret_id in referenced if isinstance(stored.get(secret_id), Sealed))
    if not left:
        raise NothingToErase(of)
    return Erasable(of, left, tuple(_users(log, kind, subject, frozenset(left), tags_alone=tags_alone)))


def erase(log: RedisLog, store: RedisSecretStore, producer: Producer, what: Erasable, *, reason: str) -> None:
    """Record the erasure, destroy each secret's data key, and have Redis rewrite its append-only file without them.

    If it is interrupted, repeating it completes it.

    Raises:
        DecisionInvalid, LogUnavailable, SecretsUnavailable: the erasure may be recorded and not complete.
        FileKeepsErased: it is complete, except for the file on the disk.
    """
    # The event first: an erasure without a record would be undone by a restore, which erases what the events say (0031).
    producer.record_erasure(what.of, what.ids, reason=reason)
    for secret_id in what.ids:
        store.destroy(secret_id)
    client = log.client
    # Until the append-only file is rewritten, it has the ciphertext and the wrapped key. A rewrite that was already running may
    # have copied them; Redis answers with an error then.
    nodes = client.get_nodes() if isinstance(client, RedisCluster) else None  # type: ignore[no-untyped-call, unused-ignore]
    everywhere = {} if nodes is None else {"target_nodes": nodes}
    try:
        with answering():
            client.bgrewriteaof(**everywhere)
    except ResponseError as error:
        raise FileKeepsErased(what.of, str(error)) from error


def _ever(log: RedisLog, kind: SecretOwner, subject: str, *, tags_alone: bool) -> Iterator[str]:
    of_device = kind is SecretOwner.DEVICE
    expected = (WEBHOOK + subject if kind is SecretOwner.WEBHOOK else subject).encode()
    stream = name(partition_of(subject, log.partitions) if of_device else FLEET)
    for entry in RawStreams(log.client).entries(stream):
        about, type_, data = (entry.fields.get(field, b"") for field in (b"subject", b"type", b"data"))
        if (about.partition(b"/")[0] if of_device else about) != expected or _MARK not in data:
            continue
        if tags_alone and type_ not in (b"TwinPatched", b"TwinReplaced"):
            continue
        if kind is SecretOwner.DEPLOYMENT and not type_.startswith(b"Deployment"):
            continue
        value: Json = msgspec.json.decode(data)
        yield from sorted(references(value.get("tags") if tags_alone and isinstance(value, dict) else value))


def _running(log: RedisLog, ids: frozenset[str]) -> Iterator[str]:
    """One text that names the first devices whose configuration refers to one of these secrets, and counts the others."""
    # From projections: a device keeps its last configuration when no deployment targets it, so no document refers to it.
    projections, names, count = RedisProjectionStore(log.client), list[str](), 0
    for number in range(log.partitions):
        # Most partitions have none, and their assignments and sets, which are larger, need not be read.
        if not _referring(ids, projections.read(number, hashes=("configurations",))):
            continue
        stored = projections.read(number, hashes=("configurations", "assignments", "sets"), arrays=("assignment_of",))
        devices = configured(_referring(ids, stored), stored)
        count += len(devices)
        if ordinals := devices[: _DEVICES_NAMED - len(names)]:
            names += device_ids(projections, number, ordinals)
    if names:
        more = f" and {count - len(names)} more" if count > len(names) else ""
        yield f"device:{', '.join(names)}{more} (still run it)"


def _referring(ids: frozenset[str], partition: StoredPartition) -> list[str]:
    configurations = partition.hashes["configurations"].items()
    return [digest for digest, data in configurations if _MARK in data and ids & references(msgspec.json.decode(data))]


def _users(log: RedisLog, kind: SecretOwner, subject: str, ids: frozenset[str], *, tags_alone: bool) -> Iterator[str]:
    """The things with a document that refers to one of these secrets, and the devices that run one."""
    if kind is SecretOwner.DEVICE:
        if not tags_alone and registered_device(log, subject) is not None:
            yield f"device:{subject} (registered)"
        return
    if kind is SecretOwner.DEPLOYMENT:
        yield from _running(log, ids)
    names = list(log.subjects(FLEET))
    for start in range(0, len(names), _DOCUMENTS):
        batch = names[start : start + _DOCUMENTS]
        for fleet_subject, stored in zip(batch, log.load(batch, fleet=True), strict=True):
            if stored.snapshot and _MARK in stored.snapshot and ids & references(msgspec.json.decode(stored.snapshot)):
                yield fleet_subject
