"""The sealer: adds new entries to each stream's chain, and signs the chains' values."""

from collections.abc import Callable, Iterable, Mapping

import msgspec
import structlog

from events.audit.errors import SealExists, SealsLost, SealsMoved, SealUnreadable
from events.audit.seal import ENTRY_BYTES, FIRST, PublicKey, Reached, Seal, SealKey, Signed, shortened
from events.audit.seal_store import SealFiles, Seals
from events.log.archive.notes import SEALER, hold
from events.log.entries import digest, genesis, link, stream_names
from events.log.errors import LogLostItsTail, ObjectStoreUnavailable
from events.log.failpoints import FailPoint, reached
from events.log.object_store import ObjectStore
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from events.secrets.keyfile import read_key, read_or_create_key
from events.settings import Settings

ENTRIES_MAX = 8192
"""The most entries that a seal covers; more entries get several seals."""

SEALS_MAX = 16
"""The most seals of a round, so that its caller can renew its lease in between; the next round continues."""

logger = structlog.get_logger()


class _State(msgspec.Struct, frozen=True):
    """The last seal's number, digest, time and streams."""

    number: int = 0
    digest: str = FIRST
    at: int = 0
    streams: dict[str, Reached] = {}


def public_key(settings: Settings) -> PublicKey:
    """Returns the public half of this installation's seal key.

    Raises:
        KeyFileError: the key file is missing or cannot be read.
    """
    return SealKey(read_key(settings.effective_seal_key_file)).public


class Sealer:
    """Seals one log. Its state follows from the last seal alone."""

    def __init__(self, settings: Settings, log: RedisLog, *, clock: Callable[[], int]) -> None:
        """Create the key file if there is none.

        A seal is due after `seal_every_events` entries (events and assignment changes), or `seal_every_seconds` after the last
        seal. Without new entries, no seal is due. A clock that goes back delays no seal: the next one has the time of the
        previous.

        Raises:
            KeyFileError: the key file cannot be used.
            ObjectStoreUnavailable: the object store for seals does not exist.
        """
        file = settings.effective_seal_key_file
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._key = SealKey(read_or_create_key(file))
        self._files = SealFiles(ObjectStore(settings.effective_archive_url), epoch=log.epoch)
        self._client, self._streams, self._seals = log.client, RawStreams(log.client), Seals(log.client)
        self._names, self._epoch, self._clock = stream_names(log.partitions), log.epoch, clock
        self._every_events, self._every_ms = settings.seal_every_events, int(1000 * settings.seal_every_seconds)
        self._state, self._is_resumed = _State(), False
        self._sealed_clock = 0
        """The clock at the last seal; unlike the seal's own time, it can go back."""
        self._filed = 0
        """The number of the last seal that is in the archive."""

    def round(self, fence: int) -> int:
        """Create the seals that are due; returns how many.

        Raises:
            Fenced: another process has taken over.
            SealsLost: sealing had begun, and the last seal is missing; the next round reads again.
            LogUnavailable: Redis did not answer; the seals are due in the next round.
        """
        if not self._is_resumed:
            self._state = self._resumed()
            self._sealed_clock = self._state.at
            # First, and also at position 0: without a hold, the archive could remove entries from Redis before they are sealed.
            self._hold(self._names)
            self._keep_files(self._state.number)
            self._is_resumed = True
        heads = self._streams.heads(self._names)
        behind = sum(max(0, head - self._position(name)) for name, head in heads.items())
        clock, made = self._clock(), 0
        now = max(clock, self._state.at)
        # A clock that went back does not tell the age of the last seal, so a seal is due.
        is_time = clock < self._sealed_clock or clock - self._sealed_clock >= self._every_ms
        if not behind or (behind < self._every_events and not is_time):
            return 0
        # A catch-up can take longer than the lease; the fence then rejects this process's seals.
        while made < SEALS_MAX and self._seal(heads, now, fence):
            made += 1
        return made

    def forget(self) -> None:
        """Make the next round start from the newest stored seal, also if another process created it."""
        self._is_resumed = False

    def _seal(self, heads: Mapping[str, int], now: int, fence: int) -> bool:
        """Create the next seal; returns false if no entries are left."""
        before = self._state
        streams, digests_by_stream = dict(before.streams), dict[str, bytes]()
        left = ENTRIES_MAX
        for name, head in heads.items():
            if left and head > self._position(name):
                streams[name], digests_by_stream[name] = self._chained(name, min(head, self._position(name) + left))
                left -= len(digests_by_stream[name]) // ENTRY_BYTES
        digests_by_stream = {name: digests for name, digests in digests_by_stream.items() if digests}
        if not digests_by_stream:
            return False
        number, entries = before.number + 1, shortened(digests_by_stream)
        signed = self._key.sign(Seal(number, before.digest, self._epoch, now, self._key.public.id, streams, entries))
        reached(FailPoint.SEAL_CHAINED)
        try:
            self._seals.append(signed, number=number, previous=before.digest, fence=fence, clock=self._clock())
        except SealsMoved as error:
            # A lost answer to an earlier append, or another process: in both cases the stored seal counts.
            logger.info("sealing continues from the newest seal", why=str(error))
            self.forget()
            return False
        reached(FailPoint.SEAL_APPENDED)
        self._state, self._sealed_clock = _State(number, signed.digest, now, streams), self._clock()
        self._keep_files(number, signed)
        reached(FailPoint.SEAL_KEPT)
        self._hold(digests_by_stream)
        reached(FailPoint.SEAL_HELD)
        return True

    def _chained(self, name: str, upto: int) -> tuple[Reached, bytes]:
        """The chain of a stream up to a position, and the shortened digests of the new entries."""
        start, short = self._state.streams.get(name), bytearray()
        position, chain = self._position(name), genesis(self._epoch, name)
        if start is not None:
            chain = bytes.fromhex(start.chain)
        try:
            for entry in self._streams.entries(name, after=position, upto=upto):
                entry_digest = digest(name, entry)
                chain, position = link(chain, entry_digest), entry.position
                short += entry_digest[:ENTRY_BYTES]
        except LogLostItsTail as error:
            # The other streams are still sealed, and verification reports the missing entries.
            logger.error("a stream cannot be sealed beyond a gap", stream=name, why=str(error))  # noqa: TRY400 - expected
        return Reached(position, chain.hex()), bytes(short)

    def _position(self, name: str) -> int:
        sealed = self._state.streams.get(name)
        return 0 if sealed is None else sealed.position

    def _hold(self, names: Iterable[str]) -> None:
        """Register the sealed positions as retention holds, so that no entry leaves Redis unsealed."""
        for name in names:
            hold(self._client, name, SEALER, self._position(name))

    def _resumed(self) -> _State:
        """The state at the newest seal in Redis, or in the archive if Redis has lost it."""
        try:
            state = self._read(self._seals.last(), "in Redis")
        except SealUnreadable as error:
            logger.error("the newest seal in Redis cannot be read", why=str(error))  # noqa: TRY400 - the files may have it
            state = _State()
        why = "the archive has no seal"
        try:
            numbers = self._files.numbers()
            if numbers and numbers[-1] > state.number:
                data = self._files.get(numbers[-1])
                archived = self._read(None if data is None else Signed.from_file(data), "in the archive")
                if archived.number > state.number:
                    logger.error("Redis has lost seals", newest=state.number, archived=archived.number)
                    state = archived
        except (ObjectStoreUnavailable, SealUnreadable) as error:
            why = f"the archive gives no seal: {error}"
            logger.warning("seals in the archive cannot be read", why=str(error))
        # An attacker who removed the seals may have changed the entries too: a new first seal would vouch for them.
        if not state.number and self._seals.had_begun(self._names):
            raise SealsLost(why)
        return state

    def _read(self, signed: Signed | None, where: str) -> _State:
        if signed is None:
            return _State()
        seal = signed.seal()
        if seal.key != self._key.public.id:
            logger.warning("the last seal has another key", where=where, theirs=seal.key, ours=self._key.public.id)
        elif not self._key.public.signed(signed):
            # Verification reports the forged seal; to stop here would leave new entries unsealed.
            logger.error("the last seal's signature is invalid", where=where, number=seal.number)
        return _State(seal.number, signed.digest, seal.at, seal.streams)

    def _keep_files(self, upto: int, newest: Signed | None = None) -> None:
        """Store seals as files, also seals that were created while the archive was unavailable."""
        try:
            if newest is not None and self._filed == upto - 1:
                self._put(upto, newest)
            elif self._filed < upto:
                numbers = set(self._files.numbers())
                for _, number, signed in self._seals.all():
                    if number is not None and number not in numbers:
                        self._put(number, signed)
            self._filed = upto
        except ObjectStoreUnavailable as error:
            logger.warning("seals are not stored in the archive", why=str(error))

    def _put(self, number: int, signed: Signed) -> None:
        try:
            self._files.put(number, signed)
        except SealExists as error:
            # Both copies stay, and verification reports the difference.
            logger.error("a seal is not stored in the archive", why=str(error))  # noqa: TRY400 - expected
