"""No command goes on with a secret in plain: it is taken out into the vault, or the command is refused."""

import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec

from events.deployment.commands import CreateDeployment
from events.producer.errors import Command, NoVault
from events.secrets.keyfile import load_or_create
from events.secrets.port import SecretStore
from events.secrets.references import extract
from events.secrets.vault import Vault


def in_references(command: Command) -> Command:
    """The command as it will stand, with a reference for each secret: what is checked, so that no message shows one.

    Raises:
        SecretTextInvalid: as `references.extract`.
    """
    if not isinstance(command, CreateDeployment):
        return command
    return msgspec.structs.replace(command, content=extract(command.content, new_id=lambda: "0")[0])


def refuse_plain_secrets(command: Command) -> Command:
    """The command as it is, where it holds no secret.

    Raises:
        NoVault: it does, and there is nowhere to put it.
    """
    if isinstance(command, CreateDeployment) and extract(command.content, new_id=lambda: "0")[1]:
        raise NoVault(command.deployment_id)
    return command


def into_vault(store: SecretStore, key_file: Path) -> Callable[[Command], Command]:
    """Takes secrets out of commands. The key file is read, or made, when the first secret comes along."""
    opened: list[Vault] = []

    def take_out(command: Command) -> Command:
        if not isinstance(command, CreateDeployment):
            return command
        if not opened:
            try:
                return refuse_plain_secrets(command)
            except NoVault:
                key_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                key = load_or_create(key_file)
                opened.append(Vault(store, key, new_id=lambda: secrets.token_hex(16)))
        return opened[0].take_out(command)

    return take_out
