"""Decides commands on policies and tokens: a command becomes an event, or is rejected."""

import re
from collections.abc import Iterator
from typing import assert_never, get_args

from events.access import errors
from events.access.commands import AccessCommand, DefinePolicy, DeletePolicy, IssueToken, NoteSecretsRead, RevokeToken
from events.access.events import (
    SUBJECTS_NAMED_MAX,
    AccessEvent,
    PolicyDefined,
    PolicyDeleted,
    SecretsRead,
    TokenIssued,
    TokenRevoked,
)
from events.access.permissions import BUILT_IN, POLICY_PERMISSIONS, ROLES
from events.access.state import POLICY, READER, TOKEN, AccessDocument, decode, evolve
from events.decider import CommandAuthor, Decider, Documents, SubjectChange
from events.query.condition import parse_condition
from events.query.errors import ConditionInvalid

_NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._@+-]{1,64}")
_NAME_RULE = "a name has 1 to 64 ASCII letters, digits and . _ @ + -, and is not . or .."
# The end of the year 9999 in milliseconds, the last time that `datetime` can write.
_TIME_MAX = 253_402_300_799_999
_DIGEST = re.compile(r"[0-9a-f]{64}")


def check(command: AccessCommand) -> None:
    """Reject a command that no state allows: PolicyInvalid, BuiltInPolicy or TokenInvalid, with element and rule."""
    match command:
        case DefinePolicy(policy=name) | DeletePolicy(policy=name) if not _NAME.fullmatch(name):
            raise errors.PolicyInvalid(name, _NAME_RULE)
        case DefinePolicy(policy=name, permissions=permissions) if name in BUILT_IN:
            if sorted(permissions) != sorted(permission.value for permission in BUILT_IN[name]):
                # Clients of the hub rely on what each of the five allows (contract/hub.md §4).
                raise errors.PolicyInvalid(name, "is built in, and keeps its permissions")
        case DefinePolicy(policy=name, permissions=permissions):
            allowed = sorted(permission.value for permission in POLICY_PERMISSIONS)
            if not permissions or not {*permissions} <= {*allowed}:
                raise errors.PolicyInvalid(name, f"has one or more of the permissions {', '.join(allowed)}")
        case DeletePolicy(policy=name):
            if name in BUILT_IN:
                raise errors.BuiltInPolicy(name)
        case IssueToken():
            _check_token(command)
        case RevokeToken(token_id):
            if not _NAME.fullmatch(token_id):
                raise errors.TokenInvalid(token_id, _NAME_RULE)
        case NoteSecretsRead(subjects=subjects, count=count):
            assert 0 < len(subjects) <= min(count, SUBJECTS_NAMED_MAX)
        case _:
            assert_never(command)


def _check_token(command: IssueToken) -> None:
    if not _NAME.fullmatch(command.token_id) or not _NAME.fullmatch(command.name):
        raise errors.TokenInvalid(command.name, _NAME_RULE)
    if command.role not in ROLES:
        raise errors.TokenInvalid(command.name, f"a role is one of {', '.join(ROLES)}")
    if not _DIGEST.fullmatch(command.digest):
        raise errors.TokenInvalid(command.name, "the digest is 64 hexadecimal digits")
    if not 0 <= command.expires_at <= _TIME_MAX:
        raise errors.TokenInvalid(command.name, "a time is between 0 and the end of the year 9999")
    if not command.scope:
        return
    try:
        parse_condition(command.scope)
    except ConditionInvalid as error:
        raise errors.TokenInvalid(command.name, f"its scope is no target condition: {error}") from error
    if command.role == "admin":
        raise errors.TokenInvalid(
            command.name, "an admin cannot be scoped: an admin could issue a token without the scope"
        )
    # A history has devices that have left the scope, and events of the fleet that belong to no device.
    if command.role == "audit":
        raise errors.TokenInvalid(command.name, "an auditor cannot be scoped: history is that of the whole fleet")


def subject_of(command: AccessCommand) -> str:
    """The subject of a command's event."""
    if isinstance(command, DefinePolicy | DeletePolicy):
        return POLICY + command.policy
    if isinstance(command, NoteSecretsRead):
        return READER + command.reader
    return TOKEN + command.token_id


def decide(command: AccessCommand, document: AccessDocument | None) -> AccessEvent:
    """The event that a checked command becomes; raises an AccessError if the current state does not allow it."""
    match command:
        case DefinePolicy():
            if command.new and document is not None:
                raise errors.PolicyExists(command.policy)
            return PolicyDefined(command.permissions, command.primary_key, command.secondary_key)
        case DeletePolicy(policy):
            if document is None:
                raise errors.PolicyNotFound(policy)
            return PolicyDeleted()
        case IssueToken():
            if document is not None:
                raise errors.TokenExists(command.token_id)
            return TokenIssued(command.name, command.role, command.digest, command.expires_at, command.scope)
        case RevokeToken(token_id):
            if document is None:
                raise errors.TokenNotFound(token_id)
            return TokenRevoked()
        case NoteSecretsRead(subjects=subjects, count=count, what=what, through=through):
            return SecretsRead(subjects, count, what, through)
        case _:
            assert_never(command)


def _decide(command: AccessCommand, documents: Documents, _: CommandAuthor) -> Iterator[SubjectChange]:
    subject = subject_of(command)
    yield SubjectChange(subject, decide(command, documents[subject]))


DECIDER = Decider(
    get_args(AccessCommand),
    get_args(AccessEvent),
    subjects=lambda command: (subject_of(command),),
    check=check,
    decide=_decide,
    evolve=lambda _, event, version, at, _by: evolve(event, version=version, at=at),
    decode=decode,
    prefixes=(POLICY, TOKEN, READER),
    names_texts=True,
)
