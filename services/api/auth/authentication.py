"""Authentication and authorization of every request, before its body is read."""

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool

from events.access import state as access
from events.access.bearer import BearerToken
from events.access.permissions import ROLES, Permission, with_implied
from events.access.scope import Scope
from events.access.state import PolicyDocument, TokenDocument
from events.canonical import Json
from events.device.errors import DeviceNotFound
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
"""How long a policy, a token or a device is cached: a new key is accepted, and an old one rejected, at most this much later."""

_CACHED_MAX = 10_000
_NAME = re.compile(r"[A-Za-z0-9._@+-]{1,64}")
_DEVICE_PATH = re.compile(r"(?:/v1)?/devices/([^/]{1,128})(?:/modules/([^/]{1,128}))?")

V = TypeVar("V")


class _Holder(msgspec.Struct, frozen=True):
    """What authentication needs of a policy, token, device or module; without keys if it does not exist."""

    keys: tuple[str, ...] = ()
    document: PolicyDocument | TokenDocument | None = None


class Authenticator:
    """Finds the caller of a request. Reads what it needs from Redis, and caches it for a second."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._holders: OrderedDict[tuple[str, str], tuple[float, _Holder]] = OrderedDict()
        per_minute = context.settings.requests_per_minute
        self._admitted, self._failed = Throttle(per_minute), Throttle(per_minute)

    async def admit(self, route: RouteMatch, headers: Mapping[str, str], *, address: str) -> Caller:
        """The caller of a request who is permitted to use its route; the names of `headers` are in lower case.

        Raises:
            Unauthorized: the credentials are missing, wrong or expired.
            Forbidden: the caller lacks a permission.
            DeviceNotFound: the device is outside the caller's scope, or does not exist.
            RequestNotLocal, NotJson: with open access, the request may come from a web page.
            Throttled: too many requests of the caller, or too many without valid credentials from this address.
            LogUnavailable, SecretsUnavailable: the credentials cannot be checked now.
        """
        if self._context.settings.open_access:
            check_local(route.method, headers)
        if route.access.permissions is Open.ANYBODY:
            return ANYBODY
        try:
            caller = await self._caller(headers, route.path)
        except Unauthorized:
            # Only after the check: callers with valid credentials are not throttled for others behind the same address.
            self._take(self._failed, address, "Authentication")
            raise
        self._take(self._admitted, str(caller.principal), "Read" if route.method == "GET" else "Write")
        await self._authorize(caller, route)
        return caller

    async def admit_still(self, route: RouteMatch, headers: Mapping[str, str]) -> Caller:
        """Check again whether a long answer may go on: as `admit`, without counting a request."""
        caller = await self._caller(headers, route.path)
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
        if caller.scope is None:
            return
        if route.access.scope == "closed":
            raise Forbidden("they are limited to a scope, and this request has no answer within one")
        if route.access.scope == "device":
            assert route.device_id is not None
            if not await run_in_threadpool(self._context.reaches, caller.scope, route.device_id):
                raise DeviceNotFound(route.device_id)

    @staticmethod
    def _take(throttle: Throttle, name: str, what: str) -> None:
        seconds = throttle.take(name, now=time.monotonic())
        if seconds:
            raise Throttled(what, seconds)

    async def _caller(self, headers: Mapping[str, str], path: str) -> Caller:
        if self._context.settings.open_access:
            return ANYBODY
        authorization = headers.get("authorization", "")
        # The names of schemes are case-insensitive (RFC 9110, section 11.1).
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return await self._bearer(credentials.strip(" "))
        try:
            signature = sas.read(authorization)
        except SignatureMalformed as error:
            raise Unauthorized from error
        host = headers.get("host", "")
        # A signature for /devices is valid for /v1/devices: devices sign by their connection strings, which lack our prefix.
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
        permissions = with_implied(tuple(map(Permission, holder.document.permissions)))
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
        # With the function in the key: a device with the id `policy:service` is not that policy.
        name = (look_up.__name__, subject)
        fresh_until, holder = self._holders.get(name, (0.0, _Holder()))
        if fresh_until <= time.monotonic():
            holder = await run_in_threadpool(look_up, subject)
            self._holders[name] = (time.monotonic() + FRESH_SECONDS, holder)
            while len(self._holders) > _CACHED_MAX:
                self._holders.popitem(last=False)
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
        """The keys of an enabled device or of one of its modules."""
        device_id, _, module_id = subject.partition("/")
        document = registered_device(self._context.log, device_id)
        if document is None or not document.enabled:
            return _Holder()
        authentication = document.authentication
        if module_id:
            identity = document.modules.get(module_id)
            authentication = msgspec.UNSET if identity is None else identity.authentication
        keys = authentication.get("symmetricKey", {}) if isinstance(authentication, dict) else {}
        return _Holder(self._opened(tuple(keys.values())))

    def _opened(self, keys: tuple[Json, ...]) -> tuple[str, ...]:
        try:
            return tuple(map(str, self._context.vault.opened.reveal([key for key in keys if is_secret(key)])))
        except SecretsUnavailable:
            raise
        except SecretsError:
            return ()


def _is_own(caller: Caller, route: RouteMatch) -> bool:
    """Whether a device or module calls its own route, or a policy calls that acts for all devices."""
    own = route.access.own
    if not own:
        return False
    if Permission.DEVICE_CONNECT in caller.permissions:
        return True
    if caller.device_id is None or caller.device_id != route.device_id:
        return False
    module_id = own if isinstance(own, str) else route.module_id
    return caller.module_id is None or caller.module_id == module_id


def _made_by(signature: Signature, holder: _Holder) -> bool:
    return any(signature.is_of(key) for key in holder.keys)
