"""Policies and tokens for processes with access to the log: `up`, the API at its start, and the command line."""

import contextlib
import secrets
from collections.abc import Iterator

from events.access import state
from events.access.bearer import BearerToken
from events.access.commands import DefinePolicy, IssueToken
from events.access.errors import PolicyExists, PolicyNotFound
from events.access.permissions import BUILT_IN
from events.access.state import PolicyDocument, TokenDocument
from events.device.errors import ModuleNotFound
from events.log.device_documents import load_device
from events.log.keys import FLEET
from events.log.port import Log
from events.producer.producer import Producer
from events.producer.secrecy import LazyVault
from events.secrets.secret_fields import new_key

_TOKEN_BYTES = 32
_ID_BYTES = 8


class NoKey(Exception):
    """An identity has no symmetric key."""

    def __init__(self, subject: str) -> None:
        super().__init__(f"{subject} has no symmetric key: give it one with `twinfold device keys {subject} --give`")
        self.subject = subject


def ensure_policies(producer: Producer, log: Log) -> None:
    """Make the built-in policies that do not exist yet, each with new keys.

    Raises:
        LogUnavailable, SecretsError: they could not be made.
    """
    names = list(BUILT_IN)
    stored = log.load([state.POLICY + name for name in names], fleet=True)
    for name, policy in zip(names, stored, strict=True):
        if policy.snapshot is None:
            permissions = tuple(permission.value for permission in BUILT_IN[name])
            # Another process may make the policy at the same time; its keys remain.
            with contextlib.suppress(PolicyExists):
                producer.do(DefinePolicy(name, permissions, new_key(), new_key(), new=True))


def policies(log: Log) -> Iterator[tuple[str, PolicyDocument]]:
    """Yield (name, policy), sorted by name."""
    for subject, document in _access(log):
        if isinstance(document, PolicyDocument):
            yield subject.removeprefix(state.POLICY), document


def tokens(log: Log) -> Iterator[tuple[str, TokenDocument]]:
    """Yield (id, token), sorted by id, without revoked tokens."""
    for subject, document in _access(log):
        if isinstance(document, TokenDocument):
            yield subject.removeprefix(state.TOKEN), document


def _access(log: Log) -> Iterator[tuple[str, state.AccessDocument]]:
    subjects = sorted({subject for subject in log.subjects(FLEET) if state.is_access(subject)})
    for subject, stored in zip(subjects, log.load(subjects, fleet=True), strict=True):
        if stored.snapshot is not None:
            yield subject, state.decode(subject, stored.snapshot)


def issue_token(producer: Producer, *, name: str, role: str, expires_at: int = 0, scope: str = "") -> str:
    """Issue a token and return its text, which is not stored and cannot be shown again.

    Raises:
        TokenInvalid: the name, role or scope is invalid.
        LogUnavailable: the token is not issued.
    """
    token = BearerToken(secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_TOKEN_BYTES))
    producer.do(IssueToken(token.token_id, name, role, token.digest, expires_at, scope))
    return token.text


def policy_key(log: Log, vault: LazyVault, name: str) -> str:
    """The primary key of a policy.

    Raises:
        PolicyNotFound: there is no such policy.
        SecretsError: the key cannot be decrypted.
    """
    return str(vault.opened.reveal(policy_of(log, name).primary_key))


def policy_of(log: Log, name: str) -> PolicyDocument:
    """A policy; its keys are references to secrets.

    Raises:
        PolicyNotFound: there is no such policy.
    """
    subject = state.POLICY + name
    (stored,) = log.load([subject], fleet=True)
    if stored.snapshot is None:
        raise PolicyNotFound(name)
    document = state.decode(subject, stored.snapshot)
    assert isinstance(document, PolicyDocument)
    return document


def device_key(log: Log, vault: LazyVault, device_id: str, module_id: str | None = None) -> str:
    """The primary key of a device, or of one of its modules.

    Raises:
        DeviceNotFound, ModuleNotFound, NoKey: there is no such identity, or it has no key.
        SecretsError: the key cannot be decrypted.
    """
    document = load_device(log, device_id)
    authentication, subject = document.authentication, device_id
    if module_id is not None:
        subject = f"{device_id}/{module_id}"
        identity = document.modules.get(module_id)
        if identity is None:
            raise ModuleNotFound(device_id, module_id)
        authentication = identity.authentication
    keys = authentication.get("symmetricKey") if isinstance(authentication, dict) else None
    if not keys:
        raise NoKey(subject)
    return str(vault.opened.reveal(keys["primaryKey"]))
