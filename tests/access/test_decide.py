"""Policies and tokens: what may happen to them, and what stands afterwards."""

from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from events.access.commands import AccessCommand, DefinePolicy, DeletePolicy, IssueToken, RevokeToken
from events.access.decider import check, decide, subject_of
from events.access.errors import (
    AccessError,
    BuiltInPolicy,
    PolicyExists,
    PolicyInvalid,
    PolicyNotFound,
    TokenExists,
    TokenInvalid,
    TokenNotFound,
)
from events.access.events import AccessEvent, PolicyDefined, PolicyDeleted, TokenIssued, TokenRevoked
from events.access.permissions import BUILT_IN, POLICY_PERMISSIONS, ROLES, Permission, with_implied
from events.access.state import AccessDocument, PolicyDocument, TokenDocument, decode, evolve, is_access
from events.canonical import encode

FIRST: Any = {"$secret": "0"}
SECOND: Any = {"$secret": "1"}
DIGEST = "0f" * 32
READ = ("RegistryRead",)
DEFINED = PolicyDefined(READ, FIRST, SECOND)
ISSUED = TokenIssued("ada", "read", DIGEST)


def define(policy: str = "mine", permissions: tuple[str, ...] = READ, *, new: bool = False) -> DefinePolicy:
    return DefinePolicy(policy, permissions, FIRST, SECOND, new)


def issue(**members: Any) -> IssueToken:
    return IssueToken(**{"token_id": "0", "name": "ada", "role": "read", "digest": DIGEST, **members})


def after(*events: AccessEvent) -> AccessDocument | None:
    document = None
    for number, event in enumerate(events, start=1):
        document = evolve(event, version=number, at=1000 * number)
    return document


def decided(command: AccessCommand, *previous_events: AccessEvent) -> AccessEvent:
    check(command)
    return decide(command, after(*previous_events))


def test_a_policy_is_made_changed_and_deleted_and_may_come_again() -> None:
    assert decided(define()) == DEFINED
    assert decided(define(permissions=("ServiceConnect",)), DEFINED) == PolicyDefined(
        ("ServiceConnect",), FIRST, SECOND
    )
    assert decided(DeletePolicy("mine"), DEFINED) == PolicyDeleted()
    assert decided(define(new=True), DEFINED, PolicyDeleted()) == DEFINED


def test_a_new_policy_is_refused_where_there_is_one() -> None:
    with pytest.raises(PolicyExists, match="mine"):
        decided(define(new=True), DEFINED)


def test_a_policy_that_is_not_there_is_not_deleted() -> None:
    for given in ((), (DEFINED, PolicyDeleted())):
        with pytest.raises(PolicyNotFound, match="mine"):
            decided(DeletePolicy("mine"), *given)


@pytest.mark.parametrize("policy", BUILT_IN)
def test_a_policy_that_is_built_in_stays_and_keeps_its_rights(policy: str) -> None:
    permissions = tuple(permission.value for permission in BUILT_IN[policy])
    assert isinstance(decided(define(policy, permissions[::-1])), PolicyDefined)
    with pytest.raises(BuiltInPolicy, match=policy):
        decided(DeletePolicy(policy), DEFINED)
    for others in (("DeviceConnect", "RegistryWrite"), (*permissions, "TwinRead")):
        with pytest.raises(PolicyInvalid, match="keeps its permissions"):
            decided(define(policy, others))


@pytest.mark.parametrize(
    "permissions", [(), ("Admin",), ("TwinRead",), ("RegistryRead", "everything"), ("registryread",)]
)
def test_a_policy_of_ones_own_has_rights_of_the_hub_alone(permissions: tuple[str, ...]) -> None:
    with pytest.raises(PolicyInvalid, match="DeviceConnect, RegistryRead, RegistryWrite, ServiceConnect"):
        decided(define(permissions=permissions))


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "a:b", "x" * 65, "ä", "a\n"])
def test_a_name_has_its_alphabet_and_length(name: str) -> None:
    for policy_command in (define(name), DeletePolicy(name)):
        with pytest.raises(PolicyInvalid, match="1 to 64 ASCII"):
            check(policy_command)
    for token_command in (issue(token_id=name), issue(name=name), RevokeToken(name)):
        with pytest.raises(TokenInvalid, match="1 to 64 ASCII"):
            check(token_command)
    check(define("x" * 64))


def test_a_token_is_issued_once_and_revoked_once() -> None:
    assert decided(issue()) == ISSUED
    with pytest.raises(TokenExists):
        decided(issue(), ISSUED)
    assert decided(RevokeToken("0"), ISSUED) == TokenRevoked()
    for given in ((), (ISSUED, TokenRevoked())):
        with pytest.raises(TokenNotFound):
            decided(RevokeToken("0"), *given)


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"role": "owner"}, "read, operate, admin"),
        ({"digest": "0f"}, "64 hexadecimal"),
        ({"digest": "0F" * 32}, "64 hexadecimal"),
        ({"expires_at": -1}, "between 0 and"),
        ({"expires_at": 10**15}, "between 0 and"),
        ({"scope": "tags.site ="}, "no target condition"),
        ({"scope": "*", "role": "admin"}, "an admin cannot be scoped"),
        ({"scope": "*", "role": "audit"}, "an auditor cannot be scoped"),
    ],
)
def test_a_token_that_cannot_be_says_why(members: dict[str, Any], why: str) -> None:
    with pytest.raises(TokenInvalid, match=why):
        check(issue(**members))


def test_what_a_token_is_stands_with_the_time_it_was_issued_at() -> None:
    event = decided(issue(role="operate", expires_at=9000, scope="tags.site = 'north'"))
    document = after(event)
    assert document == TokenDocument(1, "ada", "operate", DIGEST, 9000, "tags.site = 'north'", 1000)


def test_a_command_does_not_show_its_keys() -> None:
    assert "hunter2" not in repr(DefinePolicy("mine", READ, "hunter2", "hunter2"))


def test_who_may_write_the_registry_may_read_it_and_service_goes_for_twins() -> None:
    assert with_implied((Permission.REGISTRY_WRITE,)) == {Permission.REGISTRY_WRITE, Permission.REGISTRY_READ}
    assert with_implied((Permission.SERVICE_CONNECT,)) == {
        Permission.SERVICE_CONNECT,
        Permission.TWIN_READ,
        Permission.TWIN_WRITE,
    }
    assert with_implied((Permission.DEVICE_CONNECT,)) == {Permission.DEVICE_CONNECT}


def test_a_role_may_whatever_the_role_below_may_and_only_the_highest_manages() -> None:
    read, operate, admin = (with_implied(ROLES[role]) for role in ("read", "operate", "admin"))
    assert read < operate < admin
    assert read == {Permission.REGISTRY_READ, Permission.TWIN_READ}
    assert Permission.ADMIN not in operate
    assert Permission.AUDIT_READ in admin - operate
    assert with_implied(ROLES["audit"]) == {Permission.AUDIT_READ}


some_commands: st.SearchStrategy[Any] = st.one_of(
    st.builds(
        define,
        st.just("mine"),
        st.lists(st.sampled_from([permission.value for permission in POLICY_PERMISSIONS]), min_size=1).map(tuple),
        new=st.booleans(),
    ),
    st.just(DeletePolicy("mine")),
    st.builds(issue, role=st.sampled_from(["read", "operate"]), expires_at=st.integers(0, 9), scope=st.just("*")),
    st.just(RevokeToken("0")),
)


@settings(derandomize=True, max_examples=200)
@for_all(st.lists(some_commands, max_size=12))
def test_a_document_reads_as_it_was_written_and_a_refusal_changes_nothing(commands: list[Any]) -> None:
    documents: dict[str, AccessDocument | None] = {}
    for number, command in enumerate(commands, start=1):
        subject = subject_of(command)
        assert is_access(subject)
        before = documents.get(subject)
        try:
            check(command)
            event = decide(command, before)
        except AccessError:
            continue
        documents[subject] = found = evolve(event, version=number, at=number)
        assert (found is None) == isinstance(event, PolicyDeleted | TokenRevoked)
        if found is not None:
            assert decode(subject, encode(found)) == found
            assert isinstance(found, PolicyDocument if subject.startswith("policy:") else TokenDocument)
