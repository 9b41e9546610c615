from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from events import canonical
from events.deployment.commands import (
    ChangeAdmission,
    CreateDeployment,
    DeleteDeployment,
    DeploymentCommand,
    ScheduleDeployment,
    UpdateDeployment,
    Validation,
)
from events.deployment.decider import METRICS_MAX, PRIORITY_MAX, check, decide
from events.deployment.errors import (
    AdmissionInvalid,
    DeploymentError,
    DeploymentEtagMismatch,
    DeploymentExists,
    DeploymentIdInvalid,
    DeploymentNotFound,
    LabelsInvalid,
    MetricsInvalid,
    PriorityInvalid,
    SchemaVersionInvalid,
)
from events.deployment.events import (
    AdmissionChanged,
    Admitted,
    DeploymentCreated,
    DeploymentDeleted,
    DeploymentUpdated,
    Ended,
    Everyone,
    NotStarted,
    Schedule,
)
from events.manifest.errors import ManifestInvalid
from events.query.errors import LENGTH_MAX, ConditionInvalid
from events.secrets.secret_fields import take
from tests.deployment.given import given
from tests.manifest.contents import agent, content, layer, module

CREATED = DeploymentCreated(content(), "tags.env = 'prod'", 10, {"site": "a"}, {"m": "select * from devices"})


def create(**members: Any) -> CreateDeployment:
    return CreateDeployment(**{"deployment_id": "base", "content": content(), **members})


def test_creating_a_deployment_records_all_that_was_given() -> None:
    command = CreateDeployment(
        "base", content(), "tags.env = 'prod'", 10, {"site": "a"}, {"m": "select * from devices"}, "2.0", NotStarted()
    )
    event = DeploymentCreated(
        content(), "tags.env = 'prod'", 10, {"site": "a"}, {"m": "select * from devices"}, "2.0", NotStarted()
    )
    given().when(command).then(event)


def test_a_deployment_needs_no_more_than_an_id_and_a_content() -> None:
    given().when(CreateDeployment("base", content())).then(DeploymentCreated(content()))


def test_a_layer_is_created_like_any_deployment() -> None:
    lies_over = layer({"modules.extra": module()})
    given().when(create(content=lies_over)).then(DeploymentCreated(lies_over))


def test_a_deployment_that_exists_is_not_created_again() -> None:
    given(CREATED).when(create()).refused(DeploymentExists, "base")


def test_a_deleted_deployment_can_be_created_again() -> None:
    given(CREATED, DeploymentDeleted()).when(create()).then(DeploymentCreated(content()))


@pytest.mark.parametrize("deployment_id", ["a", "a-b+c%d_e*f!g'h", "0" * 128])
def test_an_id_has_lower_case_letters_digits_and_eight_marks(deployment_id: str) -> None:
    given().when(create(deployment_id=deployment_id)).then(DeploymentCreated(content()))


@pytest.mark.parametrize("deployment_id", ["", "A", "a b", "a.b", "a\n", "ä", "0" * 129, None, 5])
@pytest.mark.parametrize("kind", [create, UpdateDeployment, DeleteDeployment])
def test_any_command_with_another_id_is_refused(kind: Any, deployment_id: Any) -> None:
    given().when(kind(deployment_id=deployment_id)).refused(DeploymentIdInvalid, "128")


@pytest.mark.parametrize("priority", [0, 1, PRIORITY_MAX])
def test_a_priority_from_0_to_the_largest_32_bit_number_is_taken(priority: int) -> None:
    given().when(create(priority=priority)).then(DeploymentCreated(content(), priority=priority))


@pytest.mark.parametrize("priority", [-1, PRIORITY_MAX + 1, True, 1.0, "1", None])
def test_any_other_priority_is_refused_by_name_and_limit(priority: Any) -> None:
    given().when(create(priority=priority)).refused(PriorityInvalid, "base", PRIORITY_MAX, priority)


@pytest.mark.parametrize("labels", [{"a": 1}, {"a": None}, {1: "a"}, ["a"], "a", None, {"a": "\ud800"}])
def test_labels_that_are_not_text_by_text_are_refused(labels: Any) -> None:
    given().when(create(labels=labels)).refused(LabelsInvalid, "base")


def test_five_metrics_are_taken_and_a_sixth_is_refused() -> None:
    five = {f"m{number}": "select * from devices" for number in range(METRICS_MAX)}
    given().when(create(metrics=five)).then(DeploymentCreated(content(), metrics=five))
    six = {**five, "m6": "select * from devices"}
    given().when(create(metrics=six)).refused(MetricsInvalid, "base", "must have at most 5 queries, not 6")


@pytest.mark.parametrize("metrics", [{"a": 1}, {1: "a"}, ["a"], None, {"m": "x" * (LENGTH_MAX + 1)}])
def test_metrics_that_are_not_short_queries_by_name_are_refused(metrics: Any) -> None:
    given().when(create(metrics=metrics)).refused(MetricsInvalid, "base")


@pytest.mark.parametrize("schema_version", [None, 1.0, "\ud800"])
def test_a_schema_version_that_is_no_text_is_refused(schema_version: Any) -> None:
    given().when(create(schema_version=schema_version)).refused(SchemaVersionInvalid, "base")


@pytest.mark.parametrize("condition", ['tags.env = "prod"', "tags.env =", "region = 'x'", 5, None, ["*"]])
def test_a_condition_that_is_none_is_refused_at_creation(condition: Any) -> None:
    given().when(create(target_condition=condition)).refused(ConditionInvalid)


OF_M = "FROM devices.modules WHERE moduleId = 'm'"
OF_MODULE = {"moduleContent": {"properties.desired.a": 1}}


@pytest.mark.parametrize("condition", ["", OF_M, f"{OF_M} AND tags.a = 1", "FROM devices.modules WHERE tags.a = 1"])
def test_a_configuration_of_a_module_has_a_condition_of_its_kind(condition: str) -> None:
    created = DeploymentCreated(OF_MODULE, condition)
    given().when(create(content=OF_MODULE, target_condition=condition)).then(created)
    update = UpdateDeployment("base", target_condition=OF_M, priority=1)
    given(created).when(update).then(DeploymentUpdated(OF_M, 1, {}, {}))


def test_conditions_of_modules_and_of_devices_do_not_stand_for_each_other() -> None:
    for condition in ("*", "tags.a = 1", "FROM devices WHERE tags.a = 1"):
        given().when(create(content=OF_MODULE, target_condition=condition)).refused(ConditionInvalid)
    given().when(create(target_condition=OF_M)).refused(ConditionInvalid)
    given(CREATED).when(UpdateDeployment("base", target_condition=OF_M)).refused(ConditionInvalid)
    wrong = UpdateDeployment("base", target_condition="*")
    given(DeploymentCreated(OF_MODULE, OF_M)).when(wrong).refused(ConditionInvalid)


@pytest.mark.parametrize("condition", ["", "*", "tags.a = 'x' NOT deviceId = 'y'"])
def test_an_odd_condition_is_taken_as_it_was_written(condition: str) -> None:
    given().when(create(target_condition=condition)).then(DeploymentCreated(content(), condition))


@pytest.mark.parametrize("broken", [None, {}, {"modulesContent": {}}, {"modulesContent": {}, "deviceContent": {}}])
@pytest.mark.parametrize("validation", Validation)
def test_a_content_that_the_hub_would_refuse_is_refused_however_it_is_validated(
    broken: Any, validation: Validation
) -> None:
    error = given().when(create(content=broken, validation=validation)).refused(ManifestInvalid)
    assert error.problems


def test_only_full_validation_holds_a_content_to_what_the_agent_accepts() -> None:
    odd = content(agent=agent(modules={"temp": module(restartPolicy="on-failured")}))
    given().when(create(content=odd)).refused(ManifestInvalid, "restartPolicy", "on-failured")
    given().when(create(content=odd, validation=Validation.CONTENT)).then(DeploymentCreated(odd))


def test_what_the_rules_only_warn_of_is_created() -> None:
    warned = content(temp={"properties.desired": {"url": "${URL}"}})
    given().when(create(content=warned)).then(DeploymentCreated(warned))


def test_an_update_keeps_what_it_does_not_name() -> None:
    event = DeploymentUpdated("tags.env = 'prod'", 11, {"site": "a"}, {"m": "select * from devices"})
    given(CREATED).when(UpdateDeployment("base", priority=11)).then(event)


def test_an_update_can_empty_what_it_names() -> None:
    command = UpdateDeployment("base", target_condition="", priority=0, labels={}, metrics={})
    given(CREATED).when(command).then(DeploymentUpdated("", 0, {}, {}))


@pytest.mark.parametrize(
    "command",
    [
        UpdateDeployment("base"),
        UpdateDeployment("base", "tags.env = 'prod'", 10, {"site": "a"}, {"m": "select * from devices"}, "*"),
        ChangeAdmission("base", Everyone()),
        ScheduleDeployment("base", Schedule()),
    ],
)
def test_a_command_that_changes_nothing_is_no_event(command: DeploymentCommand) -> None:
    given(CREATED).when(command).changes_nothing()


def test_an_update_is_held_to_the_rules_of_a_creation() -> None:
    given(CREATED).when(UpdateDeployment("base", priority=-1)).refused(PriorityInvalid)
    given(CREATED).when(UpdateDeployment("base", target_condition="nonsense")).refused(ConditionInvalid)
    given(CREATED).when(UpdateDeployment("base", metrics={str(n): "" for n in range(6)})).refused(MetricsInvalid)


@pytest.mark.parametrize(
    "command", [UpdateDeployment("base"), DeleteDeployment("base"), ChangeAdmission("base", Ended())]
)
def test_what_is_not_there_can_be_neither_changed_nor_deleted(command: DeploymentCommand) -> None:
    given().when(command).refused(DeploymentNotFound, "base")
    given(CREATED, DeploymentDeleted()).when(command).refused(DeploymentNotFound, "base")


@pytest.mark.parametrize("if_match", [None, "*", '"*"', "MQ==", '"MQ=="'])
def test_a_matching_etag_or_a_wildcard_lets_a_change_through(if_match: str | None) -> None:
    given(CREATED).when(DeleteDeployment("base", if_match)).then(DeploymentDeleted())
    event = DeploymentUpdated("*", 10, {"site": "a"}, {"m": "select * from devices"})
    given(CREATED).when(UpdateDeployment("base", target_condition="*", if_match=if_match)).then(event)


@pytest.mark.parametrize("if_match", ["Mg==", '"Mg=="', "", '"', '""', "MQ==x", "1"])
def test_a_stale_etag_is_refused_with_the_one_that_stands(if_match: str) -> None:
    given(CREATED).when(DeleteDeployment("base", if_match)).refused(DeploymentEtagMismatch, "MQ==")
    given(CREATED).when(UpdateDeployment("base", if_match=if_match)).refused(DeploymentEtagMismatch, "MQ==")


def test_each_change_makes_the_former_etag_stale() -> None:
    changed = (CREATED, AdmissionChanged(NotStarted()))
    given(*changed).when(DeleteDeployment("base", "MQ==")).refused(DeploymentEtagMismatch, "Mg==")
    given(*changed).when(DeleteDeployment("base", "Mg==")).then(DeploymentDeleted())


def test_a_content_in_the_old_form_is_the_same_in_the_new_one_and_its_secrets_are_taken() -> None:
    registry = {"own": {"address": "a", "username": "u", "password": "hunter2"}}
    runtime = {"type": "docker", "settings": {"registryCredentials": registry}}
    modern = content(agent=agent(runtime=runtime))
    old = CreateDeployment("base", {"moduleContent": modern["modulesContent"]})
    assert old == CreateDeployment("base", modern)
    taken, secrets, _ = take(old, new_id=lambda: "1")
    assert (len(secrets), "hunter2" in str(taken.content)) == (1, False)


def test_an_etag_of_a_deleted_deployment_never_fits_the_next_one_of_its_id() -> None:
    again = (CREATED, DeploymentDeleted(), CREATED)
    given(*again).when(DeleteDeployment("base", "MQ==")).refused(DeploymentEtagMismatch, "Mw==")
    given(*again).when(UpdateDeployment("base", if_match="Mg==")).refused(DeploymentEtagMismatch, "Mw==")
    given(*again).when(DeleteDeployment("base", "Mw==")).then(DeploymentDeleted())


def test_an_ended_deployment_may_be_admitted_again() -> None:
    given(CREATED, AdmissionChanged(Ended())).when(ChangeAdmission("base", Everyone())).then(
        AdmissionChanged(Everyone())
    )


def test_admitted_devices_are_recorded_sorted_and_once() -> None:
    in_order = Admitted(("a", "b"))
    given(CREATED).when(ChangeAdmission("base", Admitted(("b", "a", "b")))).then(AdmissionChanged(in_order))
    given().when(create(admission=Admitted(("b", "a", "b")))).then(DeploymentCreated(content(), admission=in_order))


def test_a_command_does_not_show_its_content_when_it_is_printed() -> None:
    held = content(agent=agent(runtime={"settings": {"registryCredentials": {"r": {"password": "hunter2"}}}}))
    assert "hunter2" not in repr(create(content=held))
    assert "hunter2" not in str(create(content=held).__rich_repr__())
    assert "deployment_id='base'" in repr(create())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda below: st.lists(below, max_size=2) | st.dictionaries(st.text(max_size=3), below, max_size=2),
    max_leaves=5,
)


@for_all(
    deployment_id=st.sampled_from(["a", ""]) | json_values,
    target_condition=json_values | st.sampled_from(["*", "tags.a = 1"]),
    priority=json_values,
    labels=json_values | st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
    metrics=json_values,
    schema_version=json_values,
    broken=st.just(content()) | json_values,
)
@settings(derandomize=True, deadline=None, max_examples=150)
def test_whatever_json_is_sent_becomes_an_event_that_can_be_written_or_a_typed_refusal(
    *, broken: Any, **members: Any
) -> None:
    command = CreateDeployment(content=broken, **members)
    try:
        check(command)
    except (DeploymentError, ConditionInvalid, ManifestInvalid):
        return
    assert canonical.encode(decide(command, None))


@pytest.mark.parametrize("device_id", ["", "a b", "\ud800", "x" * 129])
def test_only_what_a_device_can_be_called_is_admitted(device_id: str) -> None:
    admission = Admitted(("edge-1", device_id))
    given(CREATED).when(ChangeAdmission("base", admission)).refused(AdmissionInvalid, "base")
    given().when(create(admission=admission)).refused(AdmissionInvalid, "base")


@pytest.mark.parametrize("priority", [10**6000, -(10**6000)], ids=["huge", "hugely negative"])
def test_a_priority_of_thousands_of_digits_is_refused_like_any_other(priority: int) -> None:
    given().when(create(priority=priority)).refused(PriorityInvalid, "2147483647")
