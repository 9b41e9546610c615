"""The vault: takes secrets out of commands, and puts them back for whoever may see them."""

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
    """Secrets behind their references. `new_id` must draw ids that nobody guesses, and never one twice."""

    def __init__(self, store: SecretStore, key: KeyFile, *, new_id: Callable[[], str]) -> None:
        self._store = store
        self._key = key
        self._new_id = new_id

    def take_out(self, command: C, *, marked: Collection[str] = ()) -> C:
        """The command with references for its secrets, which are stored by then; other commands as they are.

        A crash, a refusal or a repetition afterwards leaves a sealed secret that nothing refers to, and no more.
        References that the content brings along must stand, so that a deployment can be made from another one's content.

        Raises:
            SecretTextInvalid, MarkNotFound: as `references.extract`.
            SecretNotFound, SecretErased: a reference leads nowhere.
            SecretsUnavailable: the store did not answer.
        """
        if not holds_secrets(command):
            return command
        taken, found, brought = take(command, new_id=self._new_id, marked=marked)
        if brought:
            self._store.sealed(brought)
        if found:
            self._put(found)
        return taken

    def take_personal(self, command: C, personal: Personal) -> C:
        """The command with references for its personal values, which are stored by then.

        Raises:
            SecretTextInvalid: as `Personal.take`.
            SecretsUnavailable: the store did not answer.
        """
        taken, found = personal.take(command, new_id=self._new_id)
        if found:
            self._put(found)
        return taken

    def new_keys(self, count: int) -> list[JsonObject]:
        """Authentications for so many identities, each with two keys that nobody guesses; they are stored by then, in one step.

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
        """A copy of a value with every secret in its place: for the device's own answer, or an authorised read.

        Raises:
            SecretNotFound, SecretErased: a reference leads nowhere.
            SecretTampered, KeyFileWrong: a secret does not open.
            SecretsUnavailable: the store did not answer.
        """
        ids = references(value)
        if not ids:
            return value
        sealed = self._store.sealed(ids)
        return materialise(value, lambda secret_id: unseal(sealed[secret_id], secret_id, self._key))

    def reveal_left(self, value: Json, *, instead: Json) -> Json:
        """As `reveal`, with `instead` in the place of every secret that was erased; all are had in one question as well.

        Raises:
            SecretNotFound: a reference leads nowhere, which no erasure does.
            SecretTampered, KeyFileWrong, SecretsUnavailable: as `reveal`.
        """
        ids = references(value)
        if not ids:
            return value
        left = self._store.left(ids)

        def found(secret_id: str) -> Json:
            if secret_id not in left:
                raise SecretNotFound(secret_id)
            one = left[secret_id]
            return instead if isinstance(one, Erased) else unseal(one, secret_id, self._key)

        return materialise(value, found)

    def rewrap(self, former: KeyFile) -> int:
        """Bring every secret that is sealed under a former key file under this one; answers how many.

        May be stopped and repeated at any time. A process that still has the former key file cannot open what is done.

        Raises:
            SecretTampered: one of them does not open; those before it are done.
            KeyFileWrong: one is sealed under neither of the two.
            SecretsUnavailable: the store did not answer; those before are done.
        """
        done = 0
        for secret_id in list(self._store.ids()):
            done += self._rewrap(secret_id, former)
        return done

    def _rewrap(self, secret_id: str, former: KeyFile) -> bool:
        try:
            sealed = self._store.sealed([secret_id])[secret_id]
        except SecretErased:
            return False
        if sealed.key_id == self._key.id:
            return False
        wrapped = rewrap(sealed, secret_id, former=former, key=self._key)
        # When it is replaced no more, another has done the same, or erased it: nothing is left to do either way.
        return self._store.replace(secret_id, former=sealed, sealed=wrapped)
