"""Authentication: every request says who it is from, and is let through or not, before its body is looked at."""

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from events.access import state as access
from events.access.bearer import BearerToken
from events.access.decider import permissions_of
from events.access.permissions import ROLES, Permission, with_implied
from events.access.scope import Scope
from events.access.state import PolicyDocument, TokenDocument
from events.canonical import Json
from events.device.errors import DeviceNotFound
from events.device.state import DeviceDocument
from events.envelope import Principal
from events.log.device_documents import registered_device
from events.properties import is_secret
from events.secrets.errors import SecretsError, SecretsUnavailable
from services.api.auth import sas
from services.api.auth.open_access import check_local
from services.api.auth.permissions import lacking
from services.api.auth.sas import Signature, SignatureMalformed
from services.api.context.api_context import ApiContext
from services.api.context.callers import ANYBODY, Caller
from services.api.http.access import Open
from services.api.http.errors import Forbidden, Throttled, Unauthorized
from services.api.http.route_index import RouteMatch
from services.api.http.throttle import Throttle

FRESH_SECONDS = 1.0
"""So long a policy, a token or a device is remembered: a key that is changed elsewhere works, or stops working, after it."""

_KEPT_MAX = 10_000
_BEARER = "bearer"
_NAME = re.compile(r"[A-Za-z0-9._@+-]{1,64}")
_DEVICE_PATH = re.compile(r"(?:/v1)?/devices/([^/]{1,128})(?:/modules/([^/]{1,128}))?")
_DEVICE_CONNECT = frozenset({Permission.DEVICE_CONNECT})

V = TypeVar("V")


class _Kept(Generic[V]):
    """The newest things that were looked up, for a moment."""

    def __init__(self, fresh_seconds: float) -> None:
        self._fresh_seconds = fresh_seconds
        self._kept: OrderedDict[Hashable, tuple[float, V]] = OrderedDict()

    def get(self, name: Hashable) -> V | None:
        entry = self._kept.get(name)
        return entry[1] if entry is not None and entry[0] > time.monotonic() else None

    def put(self, name: Hashable, value: V) -> V:
        self._kept[name] = (time.monotonic() + self._fresh_seconds, value)
        while len(self._kept) > _KEPT_MAX:
            self._kept.popitem(last=False)
        return value


class _Holder(msgspec.Struct, frozen=True):
    """A policy, token, device or module, as far as authentication has to know it; no keys where it is not there."""

    keys: tuple[str, ...] = ()
    document: PolicyDocument | TokenDocument | None = None


class Authenticator:
    """Tells who calls. Looks up what it needs in Redis, and remembers it for a second."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._holders: _Kept[_Holder] = _Kept(FRESH_SECONDS)
        per_minute = context.settings.requests_per_minute
        self._asked, self._failed = Throttle(per_minute), Throttle(per_minute)

    async def admit(self, route: RouteMatch, headers: Headers, *, address: str) -> Caller:
        """Let a request in, if its route may be used by the caller.

        Raises:
            Unauthorized: nobody knows who it is from.
            Forbidden: they may not do this.
            DeviceNotFound: the device is outside their scope, or not there.
            RequestNotLocal, NotJson: with open access, it could be that of a web page.
            Throttled: they ask too much, or too much without good credentials comes from this address.
            LogUnavailable, SecretsUnavailable: it cannot be told now.
        """
        if self._context.settings.open_access:
            check_local(route.method, headers)
        if route.access.permissions is Open.ANYBODY:
            return ANYBODY
        caller = ANYBODY if self._context.settings.open_access else await self._known(headers, route.path, address)
        self._take(self._asked, str(caller.principal), "Read" if route.method == "GET" else "Write")
        await self._authorize(caller, route)
        return caller

    async def admit_still(self, route: RouteMatch, headers: Headers) -> Caller:
        """Let an answer that takes long go on: as `admit`, but it is no further request, and is not counted.

        Raises:
            Unauthorized, Forbidden, DeviceNotFound, LogUnavailable, SecretsUnavailable: as `admit`.
        """
        caller = ANYBODY if self._context.settings.open_access else await self._caller(headers, route.path)
        await self._authorize(caller, route)
        return caller

    async def _authorize(self, caller: Caller, route: RouteMatch) -> None:
        permissions = route.access.permissions
        if isinstance(permissions, Open) or _is_own(caller, route):
            return
        if caller.device_id is not None:
            raise Forbidden("those of a device or a module reach its own modules, `desired` and `reports`")
        if not caller.may(permissions):
            raise Forbidden(lacking(permissions, caller.permissions))
        if caller.scope is not None:
            await self._keep_within(caller.scope, route)

    async def _known(self, headers: Headers, path: str, address: str) -> Caller:
        try:
            return await self._caller(headers, path)
        except Unauthorized:
            # After the look at the credentials: good ones are never held up by whoever shares their address.
            self._take(self._failed, address, "Authentication")
            raise

    @staticmethod
    def _take(throttle: Throttle, name: str, what: str) -> None:
        seconds = throttle.take(name, now=time.monotonic())
        if seconds:
            raise Throttled(what, seconds)

    async def _keep_within(self, scope: Scope, route: RouteMatch) -> None:
        if route.access.scope == "closed":
            raise Forbidden("they are limited to a scope, and this is not answered within one")
        if route.access.scope == "device":
            assert route.device_id is not None
            if not await run_in_threadpool(self._context.reaches, scope, route.device_id):
                raise DeviceNotFound(route.device_id)

    async def _caller(self, headers: Headers, path: str) -> Caller:
        authorization = headers.get("authorization", "")
        # The names of schemes are the same in upper and lower case (RFC 9110, section 11.1).
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() == _BEARER:
            return await self._bearer(credentials.strip(" "))
        try:
            signature = sas.read(authorization)
        except SignatureMalformed as error:
            raise Unauthorized from error
        host = headers.get("host", "")
        # What is signed for /devices is good for /v1/devices: connection strings of devices do not know our prefix.
        paths = (path.removeprefix("/v1"), path)
        covered = next((each for each in paths if signature.covers(host, each)), None)
        if covered is None or signature.is_expired(self._context.clock() / 1000):
            raise Unauthorized
        return await (self._policy(signature) if signature.policy else self._device(signature, covered))

    async def _policy(self, signature: Signature) -> Caller:
        if not _NAME.fullmatch(signature.policy):
            raise Unauthorized
        holder = await self._holder(access.POLICY + signature.policy, self._look_up_access)
        if not isinstance(holder.document, PolicyDocument) or not _made_by(signature, holder):
            raise Unauthorized
        permissions = with_implied(permissions_of(holder.document.permissions))
        return Caller(Principal.parse(f"user:{signature.policy}"), permissions, policy=signature.policy)

    async def _device(self, signature: Signature, path: str) -> Caller:
        match = _DEVICE_PATH.fullmatch(signature.part_of(path))
        if match is None:
            raise Unauthorized
        device_id, module_id = match[1], match[2]
        subject = f"{device_id}/{module_id}" if module_id else device_id
        holder = await self._holder(subject, self._look_up_device)
        if not _made_by(signature, holder):
            raise Unauthorized
        return Caller(Principal.parse(f"device:{subject}"), frozenset(), device_id, module_id)

    async def _bearer(self, credentials: str) -> Caller:
        token = BearerToken.parse(credentials)
        if token is None:
            raise Unauthorized
        holder = await self._holder(access.TOKEN + token.token_id, self._look_up_access)
        document = token.holder(holder.document, now=self._context.clock())
        if document is None:
            raise Unauthorized
        scope = Scope(document.scope) if document.scope else None
        return Caller(
            Principal.parse(f"user:{document.name}"),
            with_implied(ROLES[document.role]),
            scope=scope,
            role=document.role,
            expires_at=document.expires_at,
        )

    async def _holder(self, subject: str, look_up: Callable[[str], _Holder]) -> _Holder:
        # A device may be called `policy:service`; it is not that policy.
        name = (look_up.__name__, subject)
        holder = self._holders.get(name)
        if holder is None:
            holder = self._holders.put(name, await run_in_threadpool(look_up, subject))
        return holder

    def _look_up_access(self, subject: str) -> _Holder:
        (stored,) = self._context.log.load([subject], fleet=True)
        if stored.snapshot is None:
            return _Holder()
        document = access.decode(subject, stored.snapshot)
        if isinstance(document, TokenDocument):
            return _Holder(document=document)
        return _Holder(self._opened((document.primary_key, document.secondary_key)), document)

    def _look_up_device(self, subject: str) -> _Holder:
        device_id, _, module_id = subject.partition("/")
        return _Holder(self._opened(_keys_of(registered_device(self._context.log, device_id), module_id)))

    def _opened(self, keys: tuple[Json, ...]) -> tuple[str, ...]:
        try:
            opened = self._context.vault.opened.reveal(
                {str(number): key for number, key in enumerate(keys) if is_secret(key)}
            )
        except SecretsUnavailable:
            raise
        except SecretsError:
            return ()
        assert isinstance(opened, dict)
        return tuple(map(str, opened.values()))


def _is_own(caller: Caller, route: RouteMatch) -> bool:
    """Whether the route is the caller's own, as a device or a module; a policy of devices may act for all of them."""
    own = route.access.own
    if not own:
        return False
    if caller.may(_DEVICE_CONNECT):
        return True
    if caller.device_id is None or caller.device_id != route.device_id:
        return False
    module_id = own if isinstance(own, str) else route.module_id
    return caller.module_id is None or caller.module_id == module_id


def _keys_of(document: DeviceDocument | None, module_id: str) -> tuple[Json, ...]:
    """The keys of an enabled device or of one of its modules; none where there are none."""
    if document is None or not document.enabled:
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
