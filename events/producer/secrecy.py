"""Takes secrets out of commands into the vault, or rejects a command that has some, so that none reaches the log."""

import contextlib
import itertools
import secrets
from pathlib import Path

from events.canonical import JsonObject
from events.producer.decision import subjects_of
from events.producer.errors import Command, NoVault
from events.secrets.errors import KeyFileOfAnotherLog, SecretNotFound
from events.secrets.keyfile import KeyFile, read_key, read_or_create_key
from events.secrets.personal import Personal
from events.secrets.redis import RedisSecretStore
from events.secrets.sealed_secret import Erased
from events.secrets.secret_fields import holds_secrets, take
from events.secrets.vault import Vault


def in_references(command: Command) -> Command:
    """The command with a reference in place of each secret, for checks: no message of theirs can show a secret.

    Raises:
        SecretTextInvalid: as `references.extract`.
    """
    return take(command, new_id=lambda: "0")[0] if holds_secrets(command) else command


def refuse_plain_secrets(command: Command) -> Command:
    """The same command, if it has no secret.

    Raises:
        NoVault: the command has a secret.
    """
    if holds_secrets(command) and take(command, new_id=lambda: "0")[1]:
        raise NoVault(subjects_of(command)[0])
    return command


def refuse_references(command: Command) -> None:
    """Reject a command that refers to a stored secret.

    Raises:
        SecretNotFound: the command refers to a secret, whether or not the secret exists.
    """
    # For authors with a scope: the secret may be that of a device outside of it, whose configuration would show its text. The
    # one error does not tell whether an id exists.
    for brought in take(command, new_id=lambda: "0")[2] if holds_secrets(command) else ():
        raise SecretNotFound(brought)


NOTHING_PERSONAL = Personal()


class LazyVault:
    """A vault that is opened for the first secret; its key file is read then, or created."""

    def __init__(self, store: RedisSecretStore, key_file: Path, *, personal: Personal = NOTHING_PERSONAL) -> None:
        self._store, self._key_file, self.personal = store, key_file, personal
        self._opened: Vault | None = None
        self._is_of_this_log = False

    def take_out(self, command: Command) -> Command:
        """The command with references in place of its secrets and personal values.

        Raises:
            SecretsError: as `Vault.take_out`, or the key file cannot be used.
            ConditionInvalid, MetricsInvalid: a condition or a metric uses a personal tag.
        """
        self.personal.check(command)
        if self.personal.take(command, new_id=lambda: "0")[1]:
            command = self.opened.take_personal(command, self.personal)
        if not holds_secrets(command):
            return command
        # A content without a secret must not create a key file: most scripts never have one.
        if self._opened is None:
            with contextlib.suppress(NoVault):
                return refuse_plain_secrets(command)
        return self.opened.take_out(command)

    def new_keys(self, count: int) -> list[JsonObject]:
        """Authentications with new keys for `count` identities; the keys are sealed and stored.

        Raises:
            KeyFileError: the key file cannot be used, or belongs to another log.
            SecretsUnavailable: the store did not answer.
        """
        if not self._is_of_this_log:
            # A key file created here by accident would seal keys that no process of this log can open. While a key file is
            # being replaced, secrets are sealed under two, so any match in a sample of stored secrets is enough.
            sample = self._store.left(list(itertools.islice(self._store.ids(), 50)))
            key_ids = {sealed.key_id for sealed in sample.values() if not isinstance(sealed, Erased)}
            exists = self._key_file.exists()
            if key_ids and not (exists and KeyFile(read_key(self._key_file)).id in key_ids):
                raise KeyFileOfAnotherLog(self._key_file, exists=exists, key_ids=key_ids)
            self._is_of_this_log = True
        return self.opened.new_keys(count)

    @property
    def opened(self) -> Vault:
        """The opened vault.

        Raises:
            KeyFileError: the key file cannot be used.
        """
        if self._opened is None:
            self._key_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            key = KeyFile(read_or_create_key(self._key_file))
            self._opened = Vault(self._store, key, new_id=lambda: secrets.token_hex(16))
        return self._opened
