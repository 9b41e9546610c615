"""The vault: takes secrets out of commands, and reveals them to devices and to authorised readers."""

from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from events.canonical import Json, JsonObject
from events.device.authentication import KEYS
from events.properties import SECRET
from events.secrets.errors import SecretErased, SecretNotFound
from events.secrets.keyfile import KeyFile
from events.secrets.personal import Personal
from events.secrets.port import Erased, SecretStore
from events.secrets.references import Secret, materialise, references
from events.secrets.sealed_secret import rewrap, seal, unseal
from events.secrets.secret_fields import holds_secrets, new_key, take

C = TypeVar("C")


class Vault:
    """Stores secrets and reveals them by their references. `new_id` must return ids that are unique and not guessable."""

    def __init__(self, store: SecretStore, key: KeyFile, *, new_id: Callable[[], str]) -> None:
        self._store = store
        self._key = key
        self._new_id = new_id

    def take_out(self, command: C, *, marked: Collection[str] = ()) -> C:
        """The command with references in place of its secrets, which are stored; a command without secrets as it is.

        References that the command already has must exist: a deployment can be created from the content of another one.

        Raises:
            SecretTextInvalid, MarkNotFound: as `references.extract`.
            SecretNotFound, SecretErased: a reference to a secret that does not exist.
            SecretsUnavailable: the store did not answer.
        """
        # Stored before the event is written: a crash, a rejection or a repeat in between leaves a sealed secret without a
        # reference. The other way round it would leave an event whose secret does not exist.
        if not holds_secrets(command):
            return command
        replaced, new_secrets, brought = take(command, new_id=self._new_id, marked=marked)
        if brought:
            self._store.sealed(brought)
        if new_secrets:
            self._put(new_secrets)
        return replaced

    def take_personal(self, command: C, personal: Personal) -> C:
        """The command with references in place of its personal values, which are stored.

        Raises:
            SecretTextInvalid: as `Personal.take`.
            SecretsUnavailable: the store did not answer.
        """
        replaced, new_secrets = personal.take(command, new_id=self._new_id)
        if new_secrets:
            self._put(new_secrets)
        return replaced

    def new_keys(self, count: int) -> list[JsonObject]:
        """Authentications for `count` identities, each with two random keys, which are stored in one round trip.

        Raises:
            SecretsUnavailable: the store did not answer.
        """
        made = [{name: Secret(self._new_id(), new_key()) for name in KEYS} for _ in range(count)]
        self._put(secret for keys in made for secret in keys.values())
        return [
            {"type": "sas", "symmetricKey": {name: {SECRET: secret.id} for name, secret in keys.items()}}
            for keys in made
        ]

    def _put(self, secrets: Iterable[Secret]) -> None:
        self._store.put_many({secret.id: seal(secret.plaintext, secret.id, self._key) for secret in secrets})

    def reveal(self, value: Json) -> Json:
        """A copy of a value with its secrets in plain text: for the answer to the device, or an authorised read.

        Raises:
            SecretNotFound, SecretErased: a reference to a secret that does not exist.
            SecretTampered, KeyFileWrong: a secret cannot be opened.
            SecretsUnavailable: the store did not answer.
        """
        ids = references(value)
        if not ids:
            return value
        sealed = self._store.sealed(ids)
        return materialise(value, lambda secret_id: unseal(sealed[secret_id], secret_id, self._key))

    def reveal_left(self, value: Json, *, instead: Json) -> Json:
        """As `reveal`, with `instead` in place of every erased secret.

        Raises:
            SecretNotFound: a reference to a secret that never existed.
            SecretTampered, KeyFileWrong, SecretsUnavailable: as `reveal`.
        """
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

    def rewrap(self, old_key: KeyFile) -> int:
        """Seal the data keys of all secrets under this key file instead of the old one; returns the number of secrets changed.

        It can be interrupted and repeated at any time. A process that still has the old key file cannot open changed secrets.

        Raises:
            SecretTampered: a secret cannot be opened; the secrets before it are changed.
            KeyFileWrong: a secret is sealed under neither key file.
            SecretsUnavailable: the store did not answer; the secrets before are changed.
        """
        done = 0
        for secret_id in list(self._store.ids()):
            done += self._rewrap(secret_id, old_key)
        return done

    def _rewrap(self, secret_id: str, old_key: KeyFile) -> bool:
        try:
            sealed = self._store.sealed([secret_id])[secret_id]
        except SecretErased:
            return False
        if sealed.key_id == self._key.id:
            return False
        wrapped = rewrap(sealed, secret_id, old_key=old_key, key=self._key)
        # False if another process has rewrapped or erased the secret since it was read; then there is nothing to do.
        return self._store.replace(secret_id, before=sealed, sealed=wrapped)
