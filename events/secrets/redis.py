"""Stores sealed secrets in one hash in Redis, in the slot of the fleet's stream: id to sealed bytes."""

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import Any

from redis import Redis
from redis.cluster import RedisCluster

from events.redis_errors import unavailable_as
from events.secrets.errors import SecretExists, SecretNotFound, SecretsUnavailable
from events.secrets.port import Erased, decode, decode_left, encode
from events.secrets.sealed_secret import Sealed

KEY = "{fleet}:secrets"

_answering = partial(unavailable_as, SecretsUnavailable)

_ERASED = encode(Erased())

# Scripts, as each compares and writes in one step: with two commands, a replacement (a new key file) between them could bring
# back a secret that was destroyed.
_DESTROY = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""
_REPLACE = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""


class RedisSecretStore:
    """Sealed secrets in the Redis that has the log. The client must answer bytes (redis-py's default)."""

    def __init__(self, client: Redis | RedisCluster) -> None:
        self._client = client

    def put_many(self, sealed: Mapping[str, Sealed]) -> None:
        """Store secrets under ids that are free."""
        # HSETNX, not HSET: an id that is used twice must not replace another secret, nor bring back an erased one.
        with _answering():
            pipe = self._client.pipeline(transaction=False)
            for secret_id, secret in sealed.items():
                pipe.hsetnx(KEY, secret_id, encode(secret))
            existing = [secret_id for secret_id, is_new in zip(sealed, pipe.execute(), strict=True) if not is_new]
            stored = dict(zip(existing, self._values(existing), strict=True))
        for secret_id in existing:
            if stored[secret_id] != encode(sealed[secret_id]):
                raise SecretExists(secret_id)

    def sealed(self, ids: Collection[str]) -> Mapping[str, Sealed]:
        """The sealed secrets of these ids, in one round trip."""
        names = list(ids)
        with _answering():
            values = self._values(names)
        return {secret_id: decode(secret_id, value) for secret_id, value in zip(names, values, strict=True)}

    def left(self, ids: Collection[str]) -> Mapping[str, Sealed | Erased]:
        """The sealed or erased secrets of these ids, in one round trip."""
        names = list(ids)
        with _answering():
            values = zip(names, self._values(names), strict=True)
        return {secret_id: decode_left(secret_id, value) for secret_id, value in values if value is not None}

    def destroy(self, secret_id: str) -> None:
        """Destroy a secret permanently."""
        with _answering():
            existed = self._client.eval(_DESTROY, 1, KEY, secret_id, _ERASED)
        if not existed:
            raise SecretNotFound(secret_id)

    def replace(self, secret_id: str, *, before: Sealed, sealed: Sealed) -> bool:
        """Replace the bytes of a secret, if they are still those in `before`."""
        with _answering():
            return bool(self._client.eval(_REPLACE, 1, KEY, secret_id, encode(before), encode(sealed)))

    def ids(self) -> Iterable[str]:
        """The ids of all secrets that are not erased."""
        with _answering():
            for secret_id, data in self._client.hscan_iter(KEY, count=1000):
                if data != _ERASED:
                    yield secret_id.decode()

    def _values(self, ids: list[str]) -> list[bytes | None]:
        values: Any = self._client.hmget(KEY, ids) if ids else []
        return list(values)
