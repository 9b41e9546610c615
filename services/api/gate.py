"""The gate: every request says who it is from, and is let through or not, before its body is looked at."""

import hashlib
import hmac
import re
import time
from collections import OrderedDict
from typing import Generic, TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from events.access import state as access
from events.access.decide import rights_of
from events.access.rights import ROLES, Right, with_implied
from events.access.state import PolicyDocument, TokenDocument
from events.canonical import Json, JsonObject
from events.device.state import DeviceDocument, decode_device, section
from events.envelope import Principal
from events.properties import is_secret
from events.secrets.errors import SecretsError, SecretsUnavailable
from events.targeting.evaluate import evaluate
from events.targeting.parse import parse
from events.targeting.tree import Condition
from services.api import sas
from services.api.callers import ANYBODY, Caller
from services.api.errors import Forbidden, Unauthorized
from services.api.needs import Open, device_of, needed, owner
from services.api.room import Room
from services.api.sas import Signature, SignatureMalformed

FRESH_SECONDS = 1.0
"""So long a policy, a token or a device is remembered: a key that is changed elsewhere works, or stops working, after it."""

_KEPT_MAX = 10_000
_TOKEN = re.compile(r"Bearer twf_([A-Za-z0-9]{1,64})_([A-Za-z0-9_-]{20,128})", re.ASCII)
_DEVICE_PATH = re.compile(r"/devices/([^/]+)(?:/modules/([^/]+))?")
_NO_ENTRY = "the credentials are missing, wrong or expired"

V = TypeVar("V")


class _Kept(Generic[V]):
    """The newest things that were looked up, for a moment."""

    def __init__(self, fresh_seconds: float) -> None:
        self._fresh_seconds = fresh_seconds
        self._kept: OrderedDict[str, tuple[float, V]] = OrderedDict()

    def get(self, name: str) -> V | None:
        found = self._kept.get(name)
        return found[1] if found is not None and found[0] > time.monotonic() else None

    def put(self, name: str, value: V) -> V:
        self._kept[name] = (time.monotonic() + self._fresh_seconds, value)
        while len(self._kept) > _KEPT_MAX:
            self._kept.popitem(last=False)
        return value


class _Holder(msgspec.Struct, frozen=True):
    """A policy, token, device or module, as far as the gate has to know it; no keys where it is not there."""

    keys: tuple[str, ...] = ()
    document: PolicyDocument | TokenDocument | None = None


class _Twin(msgspec.Struct, frozen=True):
    """What a scope is evaluated on."""

    device_id: str
    tags: JsonObject
    reported: JsonObject


class Gate:
    """Tells who calls. Looks up what it needs in Redis, and remembers it for a second."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._holders: _Kept[_Holder] = _Kept(FRESH_SECONDS)

    async def admit(self, method: str, path: str, headers: Headers) -> Caller:
        """Let a request in.

        Raises:
            Unauthorized: nobody knows who it is from.
            Forbidden: they may not do this.
            LogUnavailable, SecretsUnavailable: it cannot be told now.
        """
        need = needed(method, path)
        if need is Open.ANYBODY or self._room.settings.open_access:
            return ANYBODY
        caller = await self._caller(headers, path)
        if caller.scope is not None and not await run_in_threadpool(self._is_in_scope, caller.scope, path):
            raise Forbidden
        if isinstance(need, tuple):
            if self._is_own(caller, path):
                return caller
            need = need[1]
        if caller.device_id is not None or not caller.may(need):
            raise Forbidden
        return caller

    def _is_in_scope(self, scope: Condition, path: str) -> bool:
        """Whether a path is about one device, and that one within the scope as it stands now."""
        device_id = device_of(path)
        if device_id is None:
            return False
        (stored,) = self._room.log.load([device_id])
        if stored.snapshot is None:
            return False
        document = decode_device(stored.snapshot)
        twin = _Twin(device_id, section(document.tags), section(document.reported))
        return not document.retired and evaluate(scope, twin) is True

    def _is_own(self, caller: Caller, path: str) -> bool:
        owned = owner(path)
        if owned is None:
            return False
        if caller.may(Right.DEVICE_CONNECT):
            return True
        device_id, module_id = owned
        if caller.device_id != device_id:
            return False
        return caller.module_id is None or caller.module_id == module_id

    async def _caller(self, headers: Headers, path: str) -> Caller:
        given = headers.get("authorization", "")
        if given.startswith("Bearer "):
            return await self._bearer(given)
        try:
            signature = sas.read(given)
        except SignatureMalformed as error:
            raise Unauthorized(_NO_ENTRY) from error
        own = path.removeprefix("/v1")
        host = headers.get("host", "")
        if signature.is_expired(self._room.clock() / 1000) or not signature.covers(host, own):
            raise Unauthorized(_NO_ENTRY)
        return await (self._policy(signature) if signature.policy else self._device(signature))

    async def _policy(self, signature: Signature) -> Caller:
        holder = await self._holder(access.POLICY + signature.policy)
        if not isinstance(holder.document, PolicyDocument) or not _made_by(signature, holder):
            raise Unauthorized(_NO_ENTRY)
        rights = with_implied(rights_of(holder.document.rights))
        return Caller(Principal.parse(f"user:{signature.policy}"), rights)

    async def _device(self, signature: Signature) -> Caller:
        found = _DEVICE_PATH.fullmatch(signature.path)
        if found is None:
            raise Unauthorized(_NO_ENTRY)
        device_id, module_id = found[1], found[2]
        holder = await self._holder(f"{device_id}/{module_id}" if module_id else device_id)
        if not _made_by(signature, holder):
            raise Unauthorized(_NO_ENTRY)
        subject = f"{device_id}/{module_id}" if module_id else device_id
        return Caller(Principal.parse(f"device:{subject}"), frozenset(), device_id, module_id)

    async def _bearer(self, given: str) -> Caller:
        found = _TOKEN.fullmatch(given)
        if found is None:
            raise Unauthorized(_NO_ENTRY)
        document = (await self._holder(access.TOKEN + found[1])).document
        digest = hashlib.sha256(found[2].encode()).hexdigest()
        known = document.digest if isinstance(document, TokenDocument) else "0" * len(digest)
        if not hmac.compare_digest(known, digest) or not isinstance(document, TokenDocument):
            raise Unauthorized(_NO_ENTRY)
        if 0 < document.expires_at <= self._room.clock():
            raise Unauthorized(_NO_ENTRY)
        scope = parse(document.scope) if document.scope else None
        return Caller(Principal.parse(f"user:{document.name}"), with_implied(ROLES[document.role]), scope=scope)

    async def _holder(self, subject: str) -> _Holder:
        found = self._holders.get(subject)
        if found is None:
            found = self._holders.put(subject, await run_in_threadpool(self._look_up, subject))
        return found

    def _look_up(self, subject: str) -> _Holder:
        if access.is_access(subject):
            (stored,) = self._room.log.load([subject], fleet=True)
            if stored.snapshot is None:
                return _Holder()
            document = access.decode(subject, stored.snapshot)
            if isinstance(document, TokenDocument):
                return _Holder(document=document)
            return _Holder(self._opened((document.primary_key, document.secondary_key)), document)
        device_id, _, module_id = subject.partition("/")
        (stored,) = self._room.log.load([device_id])
        document_ = None if stored.snapshot is None else decode_device(stored.snapshot)
        return _Holder(self._opened(_keys_of(document_, module_id)))

    def _opened(self, keys: tuple[Json, ...]) -> tuple[str, ...]:
        try:
            opened = self._room.vault.opened.reveal(
                {str(number): key for number, key in enumerate(keys) if is_secret(key)}
            )
        except SecretsUnavailable:
            raise
        except SecretsError:
            return ()
        assert isinstance(opened, dict)
        return tuple(map(str, opened.values()))


def _keys_of(document: DeviceDocument | None, module_id: str) -> tuple[Json, ...]:
    """The keys of an enabled device or of one of its modules; none where there are none."""
    if document is None or document.retired or not document.enabled:
        return ()
    authentication = document.authentication
    if module_id:
        identity = document.modules.get(module_id)
        authentication = msgspec.UNSET if identity is None else identity.authentication
    if not isinstance(authentication, dict):
        return ()
    return tuple(authentication.get("symmetricKey", {}).values())


def _made_by(signature: Signature, holder: _Holder) -> bool:
    return any(signature.is_of(key) for key in holder.keys)
