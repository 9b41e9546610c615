"""From settings and an open log to whoever seals it, or verifies it."""

from collections.abc import Callable, Mapping, Sequence

from events.audit.errors import PublicKeyUnusable
from events.audit.seal import PublicKey, SealKey
from events.audit.sealer import Sealer
from events.audit.seals import SealFiles, Seals
from events.audit.verify import Progress, Report, Span, verify
from events.log.archive.holding import SEALER, Registered
from events.log.connect import Client
from events.log.depot import Depot
from events.log.entries import stream_names
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from events.secrets.keyfile import read_key, read_or_create_key
from events.settings import Settings


def open_sealer(settings: Settings, log: RedisLog, *, clock: Callable[[], int]) -> Sealer:
    """The sealer of a log, with its key read, or made where there is none.

    Raises:
        KeyFileError: the key file cannot be used.
        DepotUnavailable: there is no such place for seals outside Redis.
    """
    file = settings.effective_seal_key_file
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Sealer(
        RawStreams(log.client),
        Seals(log.client),
        SealFiles(Depot(settings.effective_archive_url), epoch=log.epoch),
        key=SealKey(read_or_create_key(file)),
        names=stream_names(log.partitions),
        epoch=log.epoch,
        clock=clock,
        hold=_Holder(log.client),
        every_facts=settings.seal_every_facts,
        every_seconds=settings.seal_every_seconds,
    )


def public_key(settings: Settings) -> PublicKey:
    """The public half of the key that seals here.

    Raises:
        KeyFileError: there is no such key file, or it is not for us to read.
    """
    return SealKey(read_key(settings.effective_seal_key_file)).public


def public_key_of(data: bytes, *, place: str) -> PublicKey:
    """A public key from a PEM file.

    Raises:
        PublicKeyUnusable: it is none.
    """
    if b"PRIVATE" in data:
        raise PublicKeyUnusable(place, "holds a private key")
    return PublicKey.from_pem(data, place=place)


def verify_log(
    settings: Settings,
    log: RedisLog,
    keys: Sequence[PublicKey],
    *,
    span: Span | None = None,
    progress: Progress = lambda _done, _all: None,
) -> Report:
    """Verify a log by public keys alone; see `verify`.

    Raises:
        NothingSealed, LogUnavailable, DepotUnavailable: as `verify`.
    """
    return verify(
        RawStreams(log.client),
        Seals(log.client),
        SealFiles(Depot(settings.effective_archive_url), epoch=log.epoch),
        keys=keys,
        names=stream_names(log.partitions),
        epoch=log.epoch,
        span=span,
        progress=progress,
    )


class _Holder:
    """Says beside each stream how far it is sealed, so that no entry leaves Redis before it is."""

    def __init__(self, client: Client) -> None:
        self._registered = Registered(client)

    def __call__(self, positions: Mapping[str, int]) -> None:
        for stream, position in positions.items():
            self._registered.hold(stream, SEALER, position)
