"""The sealer: applies what came into each stream's chain, and signs how far it came."""

from collections.abc import Callable, Iterable, Mapping

import msgspec
import structlog

from events.audit.errors import SealsLost, SealsMoved, SealStands, SealUnreadable
from events.audit.seal import ENTRY_BYTES, FIRST, PublicKey, Reached, Seal, SealKey, Signed, shortened
from events.audit.seal_store import SealFiles, Seals
from events.log.archive.retention_hold import SEALER, RegisteredHolds
from events.log.entries import digest, genesis, link, stream_names
from events.log.errors import LogLostItsTail, ObjectStoreUnavailable
from events.log.failpoints import FailPoint, reached
from events.log.object_store import ObjectStore
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from events.secrets.keyfile import read_key, read_or_create_key
from events.settings import Settings

ENTRIES_MAX = 8192
"""A seal covers so many entries at most; more of them get several seals."""

SEALS_MAX = 16
"""A round makes so many seals at most, so that its caller keeps its lease; the next one goes on."""

logger = structlog.get_logger()


class _State(msgspec.Struct, frozen=True):
    """Where sealing goes on: the last seal's number, digest, time and streams."""

    number: int = 0
    digest: str = FIRST
    at: int = 0
    streams: dict[str, Reached] = {}


def public_key(settings: Settings) -> PublicKey:
    """The public half of the key that seals here.

    Raises:
        KeyFileError: there is no such key file, or it is not for us to read.
    """
    return SealKey(read_key(settings.effective_seal_key_file)).public


def open_sealer(settings: Settings, log: RedisLog, *, clock: Callable[[], int]) -> "Sealer":
    """The sealer of a log, with its key read, or made where there is none.

    Raises:
        KeyFileError: the key file cannot be used.
        ObjectStoreUnavailable: there is no such place for seals outside Redis.
    """
    file = settings.effective_seal_key_file
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Sealer(
        log,
        SealKey(read_or_create_key(file)),
        SealFiles(ObjectStore(settings.effective_archive_url), epoch=log.epoch),
        clock=clock,
        every_events=settings.seal_every_events,
        every_seconds=settings.seal_every_seconds,
    )


class Sealer:
    """Seals one log. It keeps nothing that does not follow from the last seal."""

    def __init__(
        self,
        log: RedisLog,
        key: SealKey,
        files: SealFiles,
        *,
        clock: Callable[[], int],
        every_events: int,
        every_seconds: float,
    ) -> None:
        """A seal is due after so many entries (events and assignment changes), or so many seconds after the last one, if anything came.

        Seals are in the order of their numbers. A clock that goes back delays none: the next one has the time of the one before.
        """
        self._streams, self._seals, self._holders = (
            RawStreams(log.client),
            Seals(log.client),
            RegisteredHolds(log.client),
        )
        self._names, self._epoch = stream_names(log.partitions), log.epoch
        self._key, self._files, self._clock = key, files, clock
        self._every_events, self._every_ms = every_events, int(1000 * every_seconds)
        self._state: _State | None = None
        self._sealed_clock = 0
        """What the clock said when the last seal was made; a seal's own time never goes back, the clock's may."""
        self._kept = 0

    def round(self, fence: int) -> int:
        """Seal what is due; answers how many seals were made.

        Raises:
            Fenced: another process has taken over.
            SealsLost: sealing had begun, and where it goes on is not known; the next round looks again.
            LogUnavailable: Redis did not answer; what is due then is due in the next round.
        """
        if self._state is None:
            self._state = self._resumed()
            self._sealed_clock = self._state.at
            # At 0 too, and before anything else: from here on nothing leaves Redis unsealed.
            self._hold(self._names)
            self._keep_files(self._state.number)
        heads = {name: self._streams.head(name) for name in self._names}
        behind = sum(max(0, head - self._position(name)) for name, head in heads.items())
        clock = self._clock()
        now = max(clock, self._state.at)
        if not behind or (behind < self._every_events and not self._is_time(clock)):
            return 0
        made = 0
        # A catch-up may take longer than the lease: whoever has it then is not written over, by the fence.
        while made < SEALS_MAX and self._seal(heads, now, fence):
            made += 1
        return made

    def _is_time(self, clock: int) -> bool:
        """Whether the next seal is due by the clock; one that went back says nothing of how long the last seal was ago."""
        return clock < self._sealed_clock or clock - self._sealed_clock >= self._every_ms

    def forget(self) -> None:
        """Begin the next round from the newest seal, whoever made it."""
        self._state = None

    def _seal(self, heads: Mapping[str, int], now: int, fence: int) -> bool:
        """Make the next seal; false where nothing is left."""
        assert self._state is not None
        before = self._state
        streams, came = dict(before.streams), dict[str, bytes]()
        left = ENTRIES_MAX
        for name, head in heads.items():
            if left and head > self._position(name):
                streams[name], came[name] = self._apply(name, min(head, self._position(name) + left))
                left -= len(came[name]) // ENTRY_BYTES
        came = {name: some for name, some in came.items() if some}
        if not came:
            return False
        seal = Seal(before.number + 1, before.digest, self._epoch, now, self._key.public.id, streams, shortened(came))
        signed = self._key.sign(seal)
        reached(FailPoint.SEAL_CHAINED)
        try:
            self._seals.append(signed, number=seal.number, previous=seal.previous, fence=fence, clock=self._clock())
        except SealsMoved as error:
            # An answer that was lost on the way, or another process: either way the newest seal is the truth.
            logger.info("sealing goes on from the newest seal", why=str(error))
            self._state = None
            return False
        reached(FailPoint.SEAL_APPENDED)
        self._state, self._sealed_clock = _State(seal.number, signed.digest, now, streams), self._clock()
        self._keep_files(seal.number, signed)
        reached(FailPoint.SEAL_KEPT)
        self._hold(came)
        reached(FailPoint.SEAL_HELD)
        return True

    def _apply(self, name: str, upto: int) -> tuple[Reached, bytes]:
        """The chain of a stream up to a position, and the shortened digests of what came."""
        assert self._state is not None
        start = self._state.streams.get(name)
        position, chain = (0, genesis(self._epoch, name)) if start is None else (start.position, _bytes(start))
        short = bytearray()
        try:
            for entry in self._streams.entries(name, after=position, upto=upto):
                one = digest(name, entry)
                chain, position = link(chain, one), entry.position
                short += one[:ENTRY_BYTES]
        except LogLostItsTail as error:
            # The others are sealed all the same, and verification names what is missing here.
            logger.error("a stream cannot be sealed further", stream=name, why=str(error))  # noqa: TRY400 - expected
        return Reached(position, chain.hex()), bytes(short)

    def _position(self, name: str) -> int:
        assert self._state is not None
        found = self._state.streams.get(name)
        return 0 if found is None else found.position

    def _hold(self, names: Iterable[str]) -> None:
        """Say beside some streams how far they are sealed, so that no entry leaves Redis before it is."""
        for name in names:
            self._holders.hold(name, SEALER, self._position(name))

    def _resumed(self) -> _State:
        """Where the newest seal leaves off: in Redis, or in the files where Redis has lost it."""
        try:
            found = self._read(self._seals.last(), "in Redis")
        except SealUnreadable as error:
            logger.error("the newest seal in Redis cannot be read", why=str(error))  # noqa: TRY400 - the files may have it
            found = _State()
        why = "the archive has none"
        try:
            numbers = self._files.numbers()
            if numbers and numbers[-1] > found.number:
                data = self._files.get(numbers[-1])
                archived = self._read(None if data is None else Signed.from_file(data), "in the archive")
                if archived.number > found.number:
                    logger.error("Redis has lost seals", newest=found.number, archived=archived.number)
                    found = archived
        except (ObjectStoreUnavailable, SealUnreadable) as error:
            why = f"the archive gives none: {error}"
            logger.warning("seals in the archive cannot be read", why=str(error))
        # Whoever took the seals away may have changed what they sealed: it is not for us to sign that anew.
        if not found.number and self._seals.had_begun(self._names):
            raise SealsLost(why)
        return found

    def _read(self, signed: Signed | None, where: str) -> _State:
        if signed is None:
            return _State()
        seal = signed.seal()
        if seal.key != self._key.public.id:
            logger.warning("the last seal is by another key", where=where, theirs=seal.key, ours=self._key.public.id)
        elif not self._key.public.signed(signed):
            # Whoever forged it is found by verification; what is sealed from here on is sealed behind it.
            logger.error("the last seal's signature is not good", where=where, number=seal.number)
        return _State(seal.number, signed.digest, seal.at, seal.streams)

    def _keep_files(self, upto: int, newest: Signed | None = None) -> None:
        """Keep seals as files, those too that were made while the archive was away."""
        try:
            if newest is not None and self._kept == upto - 1:
                self._put(upto, newest)
            elif self._kept < upto:
                there = set(self._files.numbers())
                for placed in self._seals.all():
                    if placed.number is not None and placed.number not in there:
                        self._put(placed.number, placed.signed)
            self._kept = upto
        except ObjectStoreUnavailable as error:
            logger.warning("seals are not kept in the archive", why=str(error))

    def _put(self, number: int, signed: Signed) -> None:
        try:
            self._files.put(number, signed)
        except SealStands as error:
            # Both stay, and verification tells of it.
            logger.error("a seal is not kept in the archive", why=str(error))  # noqa: TRY400 - expected


def _bytes(one: Reached) -> bytes:
    return bytes.fromhex(one.chain)
