"""Stores sealed secrets in one hash in Redis, in the slot of the fleet's stream: id to sealed bytes."""

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import Any

from redis import Redis
from redis.cluster import RedisCluster

from events.canonical import encode
from events.redis_cluster import hash_fields
from events.redis_errors import unavailable_as
from events.secrets.errors import SecretErased, SecretExists, SecretNotFound, SecretsUnavailable
from events.secrets.sealed_secret import Erased, Sealed, decode

KEY = "{fleet}:secrets"

_answering = partial(unavailable_as, SecretsUnavailable)

_ERASED = encode(Erased())


class RedisSecretStore:
    """Sealed secrets in the Redis that has the log. It never gets a secret in plain text, nor the key file.

    The client must answer bytes (redis-py's default). Every method raises SecretsUnavailable if Redis does not answer.
    """

    def __init__(self, client: Redis | RedisCluster) -> None:
        self._client = client

    def put_many(self, sealed: Mapping[str, Sealed]) -> None:
        """Store secrets under ids that are free or have the same bytes already.

        Raises:
            SecretExists: an id has other bytes, which are not changed; other secrets of the call may be stored.
            SecretsUnavailable: some, all or none may be stored.
        """
        # HSETNX, not HSET: an id that is used twice must not replace another secret, nor bring back an erased one.
        with _answering():
            pipe = self._client.pipeline(transaction=False)
            for secret_id, secret in sealed.items():
                pipe.hsetnx(KEY, secret_id, encode(secret))
            existing = [secret_id for secret_id, is_new in zip(sealed, pipe.execute(), strict=True) if not is_new]
        stored = self.left(existing)
        for secret_id in existing:
            if stored[secret_id] != sealed[secret_id]:
                raise SecretExists(secret_id)

    def sealed(self, ids: Collection[str]) -> Mapping[str, Sealed]:
        """The sealed secrets of these ids; for any other id SecretNotFound, SecretErased or SecretTampered."""
        left, sealed = self.left(ids), dict[str, Sealed]()
        for secret_id in ids:
            if secret_id not in left:
                raise SecretNotFound(secret_id)
            secret = left[secret_id]
            if isinstance(secret, Erased):
                raise SecretErased(secret_id)
            sealed[secret_id] = secret
        return sealed

    def left(self, ids: Collection[str]) -> Mapping[str, Sealed | Erased]:
        """The sealed or erased secrets of those ids that were used; SecretTampered if one cannot be read."""
        names = list(ids)
        with _answering():
            values: Any = self._client.hmget(KEY, names) if names else []
        stored = zip(names, values, strict=True)
        return {secret_id: decode(secret_id, value) for secret_id, value in stored if value is not None}

    def destroy(self, secret_id: str) -> None:
        """Destroy a secret's data key and ciphertext permanently; repeating it changes nothing.

        Raises:
            SecretNotFound: the id was never used.
            SecretsUnavailable: it may or may not be destroyed.
        """
        # In two commands: no command removes an id or replaces what it has, so nothing can come in between.
        with _answering():
            if not self._client.hexists(KEY, secret_id):
                raise SecretNotFound(secret_id)
            self._client.hset(KEY, secret_id, _ERASED)

    def ids(self) -> Iterable[str]:
        """The ids of all secrets that are not erased."""
        with _answering():
            for secret_id, data in hash_fields(self._client, KEY):
                if data != _ERASED:
                    yield secret_id.decode()
