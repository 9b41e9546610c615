"""No command goes on with a secret in plain: it is taken out into the vault, or the command is refused."""

import contextlib
import itertools
import secrets
from pathlib import Path

from events.canonical import JsonObject
from events.producer.decision import subjects_of
from events.producer.errors import Command, NoVault
from events.secrets.errors import KeyFileOfAnotherLog, SecretNotFound
from events.secrets.keyfile import load, load_or_create
from events.secrets.personal import Personal
from events.secrets.port import Erased, SecretStore
from events.secrets.secret_fields import holds_secrets, take
from events.secrets.vault import Vault


def in_references(command: Command) -> Command:
    """The command as it will stand, with a reference for each secret: what is checked, so that no message shows one.

    Raises:
        SecretTextInvalid: as `references.extract`.
    """
    return take(command, new_id=lambda: "0")[0] if holds_secrets(command) else command


def refuse_plain_secrets(command: Command) -> Command:
    """The command as it is, where it holds no secret.

    Raises:
        NoVault: it does, and there is nowhere to put it.
    """
    if holds_secrets(command) and take(command, new_id=lambda: "0")[1]:
        raise NoVault(subjects_of(command)[0])
    return command


def refuse_references(command: Command) -> None:
    """Insist that a command refers to no secret: it may be that of a device which its author does not reach.

    Raises:
        SecretNotFound: it does; the error is the same whether there is such a secret.
    """
    for brought in take(command, new_id=lambda: "0")[2] if holds_secrets(command) else ():
        raise SecretNotFound(brought)


NOTHING_PERSONAL = Personal()

_SAMPLE = 50
"""Of so many secrets of the log it is looked at which key file they are sealed under."""


class LazyVault:
    """A vault that is opened when the first secret comes along: its key file is read then, or made."""

    def __init__(self, store: SecretStore, key_file: Path, *, personal: Personal = NOTHING_PERSONAL) -> None:
        self._store = store
        self.personal = personal
        self._key_file = key_file
        self._opened: Vault | None = None
        self._is_of_this_log = False

    def take_out(self, command: Command) -> Command:
        """The command without the secrets and personal values in it.

        Raises:
            SecretsError: as `Vault.take_out`, or the key file cannot be used.
            ConditionInvalid, MetricsInvalid: it targets or counts by a personal tag.
        """
        self.personal.check(command)
        if self.personal.take(command, new_id=lambda: "0")[1]:
            command = self.opened.take_personal(command, self.personal)
        if not holds_secrets(command):
            return command
        if self._opened is None:
            with contextlib.suppress(NoVault):
                return refuse_plain_secrets(command)
        return self.opened.take_out(command)

    def new_keys(self, count: int) -> list[JsonObject]:
        """Authentications with new keys for so many identities, sealed and stored.

        Raises:
            KeyFileError: the key file cannot be used, or is not that of this log.
            SecretsUnavailable: the store did not answer.
        """
        if not self._is_of_this_log:
            self._insist_on_the_key_file()
            self._is_of_this_log = True
        return self.opened.new_keys(count)

    def _insist_on_the_key_file(self) -> None:
        # A key file made here would seal keys that no process of this log opens. While one is being replaced, there are two.
        sample = self._store.left(list(itertools.islice(self._store.ids(), _SAMPLE)))
        key_ids = {sealed.key_id for sealed in sample.values() if not isinstance(sealed, Erased)}
        there = self._key_file.exists()
        if key_ids and not (there and load(self._key_file).id in key_ids):
            raise KeyFileOfAnotherLog(self._key_file, there=there, key_ids=key_ids)

    @property
    def opened(self) -> Vault:
        """The vault itself.

        Raises:
            KeyFileError: the key file cannot be used.
        """
        if self._opened is None:
            self._key_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            key = load_or_create(self._key_file)
            self._opened = Vault(self._store, key, new_id=lambda: secrets.token_hex(16))
        return self._opened
