import base64

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.canonical import encode
from events.deployment.events import (
    AdmissionChanged,
    Admitted,
    DeploymentCreated,
    DeploymentDeleted,
    DeploymentEvent,
    DeploymentScheduled,
    DeploymentUpdated,
    Ended,
    Everyone,
    NotStarted,
    Schedule,
)
from events.deployment.state import DeploymentDocument, decode, etag_of, evolve
from tests.deployment.given import document_of, replayed
from tests.manifest.contents import content, layer, module

CREATED = DeploymentCreated(content(), "*", 10, {"site": "a"}, {"m": "select * from devices"}, "2.0")
UPDATED = DeploymentUpdated("", 11, {}, {})

admissions = st.sampled_from([NotStarted(), Everyone(), Ended(), Admitted(("a", "b")), Admitted(())])
changes = st.lists(
    st.builds(AdmissionChanged, admissions)
    | st.builds(DeploymentScheduled, st.builds(Schedule, st.integers(0, 9), st.integers(0, 9)))
    | st.builds(
        DeploymentUpdated,
        st.sampled_from(["*", "", "tags.a = 'ü'"]),
        st.integers(0, 2**31 - 1),
        st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
        st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
    ),
    max_size=4,
)


def test_a_created_deployment_is_what_its_event_says() -> None:
    document = document_of(CREATED)
    assert (document.content, document.target_condition, document.priority) == (content(), "*", 10)
    assert (document.labels, document.metrics, document.schema_version) == ({"site": "a"}, CREATED.metrics, "2.0")
    assert (document.version, document.created_at, document.updated_at) == (1, 1000, 1000)
    assert document.admission == Everyone()


def test_the_content_says_whether_it_is_a_layer() -> None:
    assert not document_of(CREATED).layered
    assert document_of(DeploymentCreated(layer({"modules.extra": module()}))).layered


def test_an_update_changes_four_things_and_leaves_the_content_and_the_admission() -> None:
    before, after = document_of(CREATED), document_of(CREATED, UPDATED)
    assert (after.target_condition, after.priority, after.labels, after.metrics) == ("", 11, {}, {})
    assert (after.content, after.admission, after.created_at) == (before.content, before.admission, 1000)
    assert (after.version, after.updated_at) == (2, 2000)


def test_every_change_moves_the_etag_by_one() -> None:
    assert etag_of(document_of(CREATED)) == "MQ=="
    assert etag_of(document_of(CREATED, UPDATED)) == "Mg=="
    assert etag_of(document_of(CREATED, UPDATED, AdmissionChanged(Ended()))) == "Mw=="


@given(st.integers(1, 10**9))
@settings(derandomize=True, max_examples=20)
def test_an_etag_is_the_base64_of_a_decimal_number(counter: int) -> None:
    document = msgspec.structs.replace(document_of(CREATED), version=counter)
    assert base64.b64decode(etag_of(document)) == str(counter).encode()


def test_a_deleted_deployment_is_nothing() -> None:
    assert replayed(CREATED, DeploymentDeleted()) is None


@pytest.mark.parametrize("event", [UPDATED, AdmissionChanged(Ended()), DeploymentDeleted()])
def test_only_a_creation_follows_from_nothing(event: DeploymentEvent) -> None:
    with pytest.raises(AssertionError):
        replayed(event)


def test_creating_again_starts_a_new_life_though_version_and_etag_go_on() -> None:
    document = document_of(CREATED, UPDATED, DeploymentDeleted(), CREATED)
    assert (document.version, document.created_at, etag_of(document)) == (4, 4000, "NA==")
    assert document.target_condition == "*"


@given(changes)
@settings(derandomize=True, deadline=None, max_examples=50)
def test_a_document_reads_back_as_it_was_written(events: list[DeploymentEvent]) -> None:
    document = document_of(CREATED, *events)
    assert decode(encode(document)) == document
    assert encode(decode(encode(document))) == encode(document)


@given(changes)
@settings(derandomize=True, deadline=None, max_examples=50)
def test_replay_on_from_a_snapshot_is_replay_from_the_beginning(events: list[DeploymentEvent]) -> None:
    document: DeploymentDocument | None = document_of(CREATED)
    for number, event in enumerate(events, start=2):
        assert document is not None
        document = evolve(decode(encode(document)), event, version=number, at=1000 * number)
    assert document == document_of(CREATED, *events)
