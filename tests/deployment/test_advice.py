from events.deployment.advice import Advice, advice, outranked
from events.deployment.events import DeploymentCreated
from events.deployment.state import DeploymentDocument
from events.manifest.document import ContentKind
from tests.deployment.given import document_of
from tests.manifest.contents import agent, content, layer, module


def base(priority: int = 10, condition: str = "*") -> DeploymentDocument:
    return document_of(DeploymentCreated(content(), condition, priority))


def over(priority: int = 11, condition: str = "*") -> DeploymentDocument:
    return document_of(DeploymentCreated(layer({"modules.extra": module()}), condition, priority))


def about(found: list[Advice]) -> list[str]:
    return [one.about for one in found]


def test_a_deployment_as_it_should_be_needs_no_advice() -> None:
    assert advice("base", base(), [("extra", over())]) == ()
    assert advice("extra", over(), [("base", base())]) == ()


def test_a_base_names_the_layers_that_do_not_stand_above_it() -> None:
    layers = [("equal", over(10)), ("above", over(11)), ("below", over(9))]
    assert about(outranked("base", base(10), layers)) == ["below", "equal"]


def test_a_layer_names_the_bases_that_it_does_not_stand_above() -> None:
    bases = [("low", base(1)), ("equal", base(11)), ("high", base(12))]
    found = outranked("extra", over(11), bases)
    assert about(found) == ["equal", "high"]
    assert found[0].message == "layer extra (priority 11) is not applied on devices of equal (priority 11)"


def test_creating_a_base_anew_with_a_higher_priority_names_the_layers_it_leaves_behind() -> None:
    layers = [("a", over(11)), ("b", over(20))]
    assert outranked("base-1", base(10), layers) == []
    assert about(outranked("base-2", base(11), layers)) == ["a"]


def test_layers_are_not_compared_with_layers_nor_bases_with_bases_nor_one_with_itself() -> None:
    assert outranked("base", base(10), [("other", base(10)), ("base", over(1))]) == []
    assert outranked("extra", over(10), [("other", over(10))]) == []


def test_a_configuration_of_devices_own_twins_is_neither_base_nor_layer() -> None:
    own = document_of(DeploymentCreated({"deviceContent": {"properties.desired.a": 1}}, "*", 10))
    assert (own.layered, own.kind) == (False, ContentKind.DEVICE)
    assert advice("own", own, [("extra", over(9)), ("base", base(11))]) == ()
    assert outranked("extra", over(9), [("own", own)]) == []


def test_a_configuration_of_a_module_is_neither_and_its_condition_is_read_as_its_own_kind() -> None:
    content = {"moduleContent": {"properties.desired.a": 1}}
    metrics = {"mine": "SELECT deviceId FROM devices WHERE configurations.one.status = 'Applied'"}
    of_module = document_of(
        DeploymentCreated(content, "FROM devices.modules WHERE moduleId = 'm'", 10, metrics=metrics)
    )
    assert (of_module.layered, of_module.kind) == (False, ContentKind.MODULE)
    (only,) = advice("one", of_module, [("extra", over(9)), ("base", base(11))])
    assert (only.rule, "FROM devices.modules" in only.message) == ("metric-never-matches", True)
    (empty,) = advice("one", document_of(DeploymentCreated(content, " ")), [])
    assert (empty.rule, "FROM devices.modules" in empty.message) == ("empty-condition", True)


def test_an_empty_condition_is_pointed_out() -> None:
    for blank in ("", "  "):
        (only,) = advice("base", base(condition=blank), [])
        assert only.rule == "empty-condition"
        assert "targets no device" in only.message


def test_a_not_without_an_and_is_pointed_out_with_its_column() -> None:
    (only,) = advice("base", base(condition="tags.a = 'x' NOT deviceId = 'y'"), [])
    assert (only.rule, "column 14" in only.message) == ("implicit-and", True)


def test_what_the_manifest_rules_warn_of_is_passed_on_with_its_path() -> None:
    warned = document_of(DeploymentCreated(content(temp={"properties.desired": {"url": "${URL}"}}), "*"))
    (only,) = advice("base", warned, [])
    assert "modulesContent.temp.properties.desired.url" in only.message


def test_what_was_created_without_full_validation_is_told_what_its_devices_will_refuse() -> None:
    odd = content(agent=agent(modules={"temp": module(restartPolicy="on-failured")}))
    (only,) = advice("base", document_of(DeploymentCreated(odd, "*")), [])
    assert "on-failured" in only.message
