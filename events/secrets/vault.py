"""The vault: takes secrets out of commands, and reveals them to devices and to authorised readers."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from events.canonical import Json, JsonObject
from events.device.authentication import KEYS
from events.properties import SECRET
from events.secrets.errors import SecretNotFound
from events.secrets.keyfile import KeyFile
from events.secrets.personal import Personal
from events.secrets.redis import RedisSecretStore
from events.secrets.references import Secret, materialise, references
from events.secrets.sealed_secret import Erased, seal, unseal
from events.secrets.secret_fields import holds_secrets, new_key, take

C = TypeVar("C")


class Vault:
    """Stores secrets and reveals them by their references. `new_id` must return ids that are unique and not guessable.

    Every method raises SecretsUnavailable if the store does not answer.
    """

    def __init__(self, store: RedisSecretStore, key: KeyFile, *, new_id: Callable[[], str]) -> None:
        self._store, self._key, self._new_id = store, key, new_id

    def take_out(self, command: C) -> C:
        """The command with references in place of its secrets, which are stored; a command without secrets as it is.

        References that the command already has must exist: a deployment can be created from the content of another one.

        Raises:
            SecretTextInvalid: as `references.extract`.
            SecretNotFound, SecretErased: a reference to a secret that does not exist.
        """
        # Stored before the event is written: a crash, a rejection or a repeat in between leaves a sealed secret without a
        # reference. The other way round it would leave an event whose secret does not exist.
        if not holds_secrets(command):
            return command
        replaced, new_secrets, brought = take(command, new_id=self._new_id)
        if brought:
            self._store.sealed(brought)
        self._put(new_secrets)
        return replaced

    def take_personal(self, command: C, personal: Personal) -> C:
        """The command with references in place of its personal values, which are stored; raises as `Personal.take`."""
        replaced, new_secrets = personal.take(command, new_id=self._new_id)
        self._put(new_secrets)
        return replaced

    def new_keys(self, count: int) -> list[JsonObject]:
        """Authentications for `count` identities, each with two random keys, which are stored in one round trip."""
        made = [{name: Secret(self._new_id(), new_key()) for name in KEYS} for _ in range(count)]
        self._put(secret for keys in made for secret in keys.values())
        return [
            {"type": "sas", "symmetricKey": {name: {SECRET: secret.id} for name, secret in keys.items()}}
            for keys in made
        ]

    def _put(self, secrets: Iterable[Secret]) -> None:
        if sealed := {secret.id: seal(secret.plaintext, secret.id, self._key) for secret in secrets}:
            self._store.put_many(sealed)

    def reveal(self, value: Json) -> Json:
        """A copy of a value with its secrets in plain text: for the answer to the device, or an authorised read.

        Raises:
            SecretNotFound, SecretErased: a reference to a secret that does not exist.
            SecretTampered, KeyFileWrong: a secret cannot be opened.
        """
        ids = references(value)
        if not ids:
            return value
        sealed = self._store.sealed(ids)
        return materialise(value, lambda secret_id: unseal(sealed[secret_id], secret_id, self._key))

    def reveal_left(self, value: Json, *, instead: Json) -> Json:
        """As `reveal`, with `instead` in place of every erased secret; only a secret that never existed is not found."""
        ids = references(value)
        if not ids:
            return value
        left = self._store.left(ids)

        def text_of(secret_id: str) -> Json:
            if secret_id not in left:
                raise SecretNotFound(secret_id)
            stored = left[secret_id]
            return instead if isinstance(stored, Erased) else unseal(stored, secret_id, self._key)

        return materialise(value, text_of)
