"""What is wrong with a content, by the hub's rules and by those of the system modules."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.manifest.document import ContentKind, by_module, content_of
from events.manifest.errors import ManifestInvalid
from events.manifest.hub_rules import content_problems
from events.manifest.merge import merge
from events.manifest.problem import Problem, Severity
from events.manifest.validate import problems, validate
from tests.manifest.contents import agent, content, hub, layer, module
from tests.manifest.values import anything

AGENT = "modulesContent.$edgeAgent.properties.desired"
HUB = "modulesContent.$edgeHub.properties.desired"
OPEN = "<password>"


def found(value: Any) -> list[tuple[str, str]]:
    return [(problem.path, problem.rule) for problem in problems(value)]


def registry(**members: Any) -> dict[str, Any]:
    settings = {"registryCredentials": {"r": {"address": "r.example.com", "username": "u", "password": "p", **members}}}
    return {"type": "docker", "settings": settings}


def test_a_valid_standard_content_has_no_problem() -> None:
    assert problems(content(temp={"properties.desired": {"SendInterval": 5}})) == ()
    validate(content())


def test_a_value_that_json_does_not_have_is_called_by_its_python_type() -> None:
    (problem, *_) = problems({"modulesContent": {"$edgeAgent": ("properties.desired",)}})
    assert problem.message == "must be an object, not tuple"


def test_a_valid_layer_has_no_problem() -> None:
    over = layer(
        {
            "modules.camera": module(),
            "modules.temp.env": {"RATE": {"value": 2}},
            "modules.temp.env.MODE": {"value": {"$secret": "id"}},
            "modules.temp.settings.createOptions": "{}",
            "runtime.settings.registryCredentials.r": registry()["settings"]["registryCredentials"]["r"],
        },
        {
            "routes.a": "FROM /a INTO $upstream",
            "routes.b": {"route": "FROM /b INTO $upstream", "priority": 1},
            "routes.b.timeToLiveSecs": 60,
            "mqttBroker": {"authorizations": [{"identities": ["x"], "allow": [{"operations": ["mqtt:connect"]}]}]},
        },
        camera={"properties.desired.settings": {"rate": 2}},
    )
    assert problems(over) == ()


# --- the hub's own rules


@pytest.mark.parametrize(
    ("value", "path", "rule"),
    [
        (None, "content", "type"),
        ([], "content", "type"),
        ("text", "content", "type"),
        ({}, "content", "kind"),
        ({"moduleContent": []}, "moduleContent", "type"),
        ({"moduleContent": {"tags.x": 1}}, "moduleContent.tags.x", "path"),
        ({"moduleContent": {"m": {"properties.desired": {}}}}, "moduleContent.m", "path"),
        ({"moduleContent": {}, "deviceContent": {}}, "content", "kind"),
        ({"deviceContent": []}, "deviceContent", "type"),
        ({"deviceContent": {"tags.x": 1}}, "deviceContent.tags.x", "path"),
        ({"deviceContent": {"properties.desired": 1}}, "deviceContent.properties.desired", "type"),
        ({"deviceContent": {"properties.desired.": 1}}, "deviceContent.properties.desired.", "path"),
        ({"modulesContent": {"$edgeAgent": {}}, "deviceContent": {}}, "content", "kind"),
        ({"modulesContent": None}, "content", "kind"),
        ({"modulesContent": []}, "modulesContent", "type"),
        ({"modulesContent": {}}, "modulesContent", "agent-missing"),
        ({"modulesContent": {"$edgeAgent": 1}}, "modulesContent.$edgeAgent", "type"),
        ({"modulesContent": {"$edgeAgent": {}, "a/b": {}}}, "modulesContent.a/b", "module-id"),
        ({"modulesContent": {"$edgeAgent": {}, "$other": {}}}, "modulesContent.$other", "module-id"),
        ({"modulesContent": {"$edgeAgent": {}, "m" * 129: {}}}, f"modulesContent.{'m' * 80}…", "module-id"),
        ({"modulesContent": {"$edgeAgent": {"tags.x": 1}}}, "modulesContent.$edgeAgent.tags.x", "path"),
        (
            {"modulesContent": {"$edgeAgent": {"properties.desiredx": 1}}},
            "modulesContent.$edgeAgent.properties.desiredx",
            "path",
        ),
        (
            {"modulesContent": {"$edgeAgent": {"properties.desired.": 1}}},
            "modulesContent.$edgeAgent.properties.desired.",
            "path",
        ),
        (
            {"modulesContent": {"$edgeAgent": {"properties.desired.a..b": 1}}},
            "modulesContent.$edgeAgent.properties.desired.a..b",
            "path",
        ),
    ],
)
def test_the_hub_refuses_what_is_no_content(value: Any, path: str, rule: str) -> None:
    assert [(problem.path, problem.rule) for problem in content_problems(value)] == [(path, rule)]
    assert (path, rule) in found(value)


@pytest.mark.parametrize(
    ("section", "path", "rule"),
    [
        ({"a b": 1}, ".a b", "limit-key-characters"),
        ({"a": {"b": [None]}}, ".a.b[0]", "limit-null"),
        ({"a": "x" * 4097}, ".a", "limit-string-length"),
        ({"a": 2**52}, ".a", "limit-integer-range"),
        ({f"k{number}": "x" * 4096 for number in range(8)}, "", "limit-size"),
        ({"a": {"$secret": "id"}}, ".a.$secret", "limit-key-characters"),
    ],
)
def test_the_hub_keeps_the_limits_of_twins(section: dict[str, Any], path: str, rule: str) -> None:
    value = content(m={"properties.desired": section})
    expected = [(f"modulesContent.m.properties.desired{path}", rule)]
    assert [(problem.path, problem.rule) for problem in content_problems(value)] == expected


def test_a_content_for_devices_own_twins_is_taken_within_the_limits_of_a_twin() -> None:
    assert problems({"deviceContent": {"properties.desired.a.b": 1, "properties.desired": {"c": "x"}}}) == ()
    assert problems({"deviceContent": {}, "modulesContent": None}) == ()
    many = {"deviceContent": {f"properties.desired.k{number}": "x" * 4096 for number in range(8)}}
    assert found(many) == [("deviceContent.properties.desired", "limit-size")]
    assert found({"deviceContent": {"properties.desired.a b": 1}}) == [
        ("deviceContent.properties.desired.a b", "limit-key-characters")
    ]


def test_what_is_set_by_hand_is_of_an_edge_deployments_kind() -> None:
    assert content_problems(content(), (ContentKind.EDGE,)) == ()
    for kind in ("deviceContent", "moduleContent"):
        assert [problem.rule for problem in content_problems({kind: {}}, (ContentKind.EDGE,))] == ["kind"]


def test_limits_hold_for_the_paths_of_a_layer_together() -> None:
    over = layer({}, m={f"properties.desired.k{number}": "x" * 4096 for number in range(8)})
    assert found(over) == [("modulesContent.m.properties.desired", "limit-size")]
    deep = layer({}, m={"properties.desired" + ".a" * 12: 1})
    assert [rule for _, rule in found(deep)] == ["limit-depth"]


def test_the_hub_refuses_more_than_fifty_modules() -> None:
    assert problems(content(agent=agent(modules={f"m{number}": module("a:1") for number in range(50)}))) == ()
    value = content(agent=agent(modules={f"m{number}": module("a:1") for number in range(51)}))
    assert found(value) == [(f"{AGENT}.modules", "modules-max")]


def test_the_hub_does_not_care_what_the_modules_make_of_it() -> None:
    odd = {"modulesContent": {"$edgeAgent": {"properties.desired": {"anything": "goes"}}}}
    assert content_problems(odd) == ()
    assert problems(odd) != ()


def test_a_value_of_null_stands_for_nothing_and_is_taken() -> None:
    assert content_problems(content(m={"properties.desired": {"a": None}})) == ()


# --- the agent


@pytest.mark.parametrize(
    ("change", "path", "rule"),
    [
        ({"schemaVersion": "1"}, ".schemaVersion", "schema-version"),
        ({"schemaVersion": "1.2"}, ".schemaVersion", "schema-version"),
        ({"schemaVersion": "1.1.1"}, ".schemaVersion", "schema-version"),
        ({"schemaVersion": "0.1"}, ".schemaVersion", "schema-version"),
        ({"schemaVersion": "1.0\n"}, ".schemaVersion", "schema-version"),
        ({"schemaVersion": 1.1}, ".schemaVersion", "type"),
        ({"comment": "x"}, ".comment", "unknown-member"),
        ({"runtime": {"settings": {}}}, ".runtime", "required"),
        ({"runtime": {"type": "podman", "settings": {}}}, ".runtime.type", "enum"),
        ({"runtime": {"type": "docker", "settings": []}}, ".runtime.settings", "type"),
        ({"runtime": registry(password=1)}, ".runtime.settings.registryCredentials.r.password", "type"),
        ({"runtime": registry(username=" ")}, ".runtime.settings.registryCredentials.r.username", "blank"),
        ({"runtime": registry(username={"$secret": "id"})}, ".runtime.settings.registryCredentials.r.username", "type"),
        ({"runtime": registry(address="a b")}, ".runtime.settings.registryCredentials.r.address", "pattern"),
        ({"runtime": registry(more=1)}, ".runtime.settings.registryCredentials.r.more", "unknown-member"),
        ({"modules": {"a.b": module()}}, ".modules.a.b", "name"),
        ({"modules": {"m": []}}, ".modules.m", "type"),
        ({"modules": {"m": module(type=None)}}, ".modules.m.type", "type"),
        ({"modules": {"m": module(status="paused")}}, ".modules.m.status", "enum"),
        ({"modules": {"m": module(restartPolicy="on-failured")}}, ".modules.m.restartPolicy", "enum"),
        ({"modules": {"m": module(imagePullPolicy="always")}}, ".modules.m.imagePullPolicy", "enum"),
        ({"modules": {"m": module(startupOrder=-1)}}, ".modules.m.startupOrder", "range"),
        ({"modules": {"m": module(startupOrder=2**32)}}, ".modules.m.startupOrder", "range"),
        ({"modules": {"m": module(startupOrder=True)}}, ".modules.m.startupOrder", "type"),
        ({"modules": {"m": module(startupOrder=1.0)}}, ".modules.m.startupOrder", "type"),
        ({"modules": {"m": module(version=1)}}, ".modules.m.version", "type"),
        ({"modules": {"m": module(configuration={})}}, ".modules.m.configuration", "unknown-member"),
        ({"modules": {"m": module(env={"A+B": {"value": 1}})}}, ".modules.m.env.A+B", "name"),
        ({"modules": {"m": module(env={"A": "1"})}}, ".modules.m.env.A", "type"),
        ({"modules": {"m": module(env={"A": {}})}}, ".modules.m.env.A", "required"),
        ({"modules": {"m": module(env={"A": {"value": None}})}}, ".modules.m.env.A.value", "type"),
        ({"modules": {"m": module(env={"A": {"value": [1]}})}}, ".modules.m.env.A.value", "type"),
        ({"modules": {"m": module(settings={})}}, ".modules.m.settings", "required"),
        ({"modules": {"m": module("")}}, ".modules.m.settings.image", "image"),
        ({"modules": {"m": module("a:1:2")}}, ".modules.m.settings.image", "image"),
        ({"modules": {"m": module(settings={"image": None})}}, ".modules.m.settings.image", "type"),
        (
            {"modules": {"m": module(settings={"image": "a", "digest": "x"})}},
            ".modules.m.settings.digest",
            "unknown-member",
        ),
        (
            {"modules": {"m": module(settings={"image": "a", "createOptions": {}})}},
            ".modules.m.settings.createOptions",
            "type",
        ),
        (
            {"modules": {"m": module(settings={"image": "a", "createOptions": "{"})}},
            ".modules.m.settings.createOptions",
            "create-options",
        ),
        (
            {"modules": {"m": module(settings={"image": "a", "createOptions01": "{}"})}},
            ".modules.m.settings.createOptions",
            "create-options",
        ),
    ],
)
def test_each_rule_of_the_agent_is_named_with_its_path(change: dict[str, Any], path: str, rule: str) -> None:
    # A `$` or a dot in a name breaks the hub's rule for keys as well.
    rules = [item for item in found(content(agent=agent(**change))) if item[1] != "limit-key-characters"]
    assert rules == [(f"{AGENT}{path}", rule)]


@pytest.mark.parametrize("missing", ["runtime", "systemModules", "modules"])
def test_each_required_member_of_the_agent_is_missed(missing: str) -> None:
    section = agent()
    del section[missing]
    (problem,) = problems(content(agent=section))
    assert problem == Problem(AGENT, "required", f"{missing!r} is required")


def test_without_a_schema_version_the_rest_is_still_checked() -> None:
    section = agent(modules={"m": module(status="paused")})
    del section["schemaVersion"]
    assert found(content(agent=section)) == [(AGENT, "required"), (f"{AGENT}.modules.m.status", "enum")]


def test_the_system_modules_are_two_and_the_agent_has_no_policy_of_its_own() -> None:
    section = agent()
    section["systemModules"]["edgeAgent"]["restartPolicy"] = "always"
    del section["systemModules"]["edgeHub"]["restartPolicy"]
    section["systemModules"]["edgeCloud"] = module()
    assert found(content(agent=section)) == [
        (f"{AGENT}.systemModules.edgeAgent.restartPolicy", "unknown-member"),
        (f"{AGENT}.systemModules.edgeHub", "required"),
        (f"{AGENT}.systemModules.edgeCloud", "unknown-member"),
    ]
    del section["systemModules"]["edgeAgent"]
    assert (f"{AGENT}.systemModules", "required") in found(content(agent=section))


def test_version_1_0_tolerates_what_1_1_forbids() -> None:
    section = agent(schemaVersion="1.0", comment="x", modules={"m": module(startupOrder=1, configuration={"id": "x"})})
    assert problems(content(agent=section)) == ()
    section["modules"]["m"]["startupOrder"] = None
    assert found(content(agent=section)) == [(f"{AGENT}.modules.m.startupOrder", "type")]


@pytest.mark.parametrize("version", ["1.0", "1.0.7", "1.1", "1.1.0"])
def test_the_agent_accepts_versions_up_to_1_1(version: str) -> None:
    assert problems(content(agent=agent(schemaVersion=version))) == ()


def test_create_options_in_chunks_are_joined_and_read() -> None:
    text = json.dumps({"Env": ["x" * 400, "y" * 400]})
    chunks = {"createOptions": text[:512], "createOptions01": text[512:]}
    value = content(agent=agent(modules={"m": module(settings={"image": "a", **chunks})}))
    assert problems(value) == ()
    chunks["createOptions02"] = chunks.pop("createOptions01")
    value = content(agent=agent(modules={"m": module(settings={"image": "a", **chunks})}))
    (problem,) = problems(value)
    assert "expected createOptions01 found createOptions02" in problem.message


def test_secrets_may_stand_for_passwords_and_values_and_nowhere_else() -> None:
    reference = {"$secret": "0123"}
    value = content(
        agent=agent(runtime=registry(password=reference), modules={"m": module(env={"A": {"value": reference}})})
    )
    assert problems(value) == ()
    value = content(agent=agent(modules={"m": module(version=reference)}))
    assert found(value) == [
        (f"{AGENT}.modules.m.version.$secret", "limit-key-characters"),
        (f"{AGENT}.modules.m.version", "type"),
    ]


# --- the hub module


@pytest.mark.parametrize(
    ("change", "path", "rule"),
    [
        ({"schemaVersion": "1"}, ".schemaVersion", "schema-version"),
        ({"schemaVersion": "1.4"}, ".schemaVersion", "schema-version"),
        ({"schemaVersion": "2.0.1"}, ".schemaVersion", "schema-version"),
        ({"routes": []}, ".routes", "type"),
        ({"routes": {"a$b": "FROM /* INTO $upstream"}}, ".routes.a$b", "name"),
        ({"routes": {"r": 1}}, ".routes.r", "type"),
        ({"routes": {"r": {}}}, ".routes.r", "required"),
        ({"routes": {"r": {"route": "FROM /* INTO $upstream", "priority": 10}}}, ".routes.r.priority", "range"),
        ({"routes": {"r": {"route": "FROM /* INTO $upstream", "priority": "1"}}}, ".routes.r.priority", "type"),
        (
            {"routes": {"r": {"route": "FROM /* INTO $upstream", "timeToLiveSecs": -1}}},
            ".routes.r.timeToLiveSecs",
            "range",
        ),
        ({"routes": {"r": {"route": "FROM /* INTO $upstream", "x": 1}}}, ".routes.r.x", "unknown-member"),
        ({"storeAndForwardConfiguration": {}}, ".storeAndForwardConfiguration", "required"),
        (
            {"storeAndForwardConfiguration": {"timeToLiveSecs": "1"}},
            ".storeAndForwardConfiguration.timeToLiveSecs",
            "type",
        ),
        ({"mqttBroker": {}}, ".mqttBroker", "unknown-member"),
    ],
)
def test_each_rule_of_the_hub_module_is_named_with_its_path(change: dict[str, Any], path: str, rule: str) -> None:
    expected = [(f"{HUB}{path}", rule)]
    assert [item for item in found(content(hub=hub(**change))) if item[1] != "limit-key-characters"] == expected


def test_every_bad_route_is_reported_under_its_name() -> None:
    value = content(hub=hub(routes={"a": "FORM /", "good": "FROM /* INTO $upstream", "b": {"route": ""}}))
    assert [str(problem) for problem in problems(value)] == [
        f"{HUB}.routes.a: Error parsing route a - column 1: unexpected 'FORM' [route]",
        f"{HUB}.routes.b.route: Error parsing route b - column 1: the route ends too early [route]",
    ]


def test_version_1_0_of_the_hub_knows_routes_as_text_only() -> None:
    routes = {"r": {"route": "FROM /* INTO $upstream"}}
    assert found(content(hub=hub(schemaVersion="1.0", routes=routes))) == [(f"{HUB}.routes.r", "type")]
    assert problems(content(hub=hub(schemaVersion="1.0", more=1))) == ()


def test_the_broker_comes_with_version_1_2_and_the_signature_with_1_3() -> None:
    broker = {
        "bridges": [{"endpoint": "$upstream", "settings": [{"direction": "in", "topic": "x"}]}],
        "authorizations": [{"identities": ["{{iot:identity}}"], "deny": [{"operations": ["mqtt:fly"]}]}],
    }
    expected = [(f"{HUB}.mqttBroker.authorizations[0].deny[0].operations[0]", "pattern")]
    assert found(content(hub=hub(schemaVersion="1.2", mqttBroker=broker))) == expected
    assert problems(content(hub=hub(schemaVersion="1.3", integrity={}))) == ()
    assert found(content(hub=hub(schemaVersion="1.2", integrity={}))) == [(f"{HUB}.integrity", "unknown-member")]


def test_no_store_and_forward_is_a_warning_that_validation_lets_pass() -> None:
    section = hub()
    del section["storeAndForwardConfiguration"]
    (problem,) = problems(content(hub=section))
    assert (problem.rule, problem.severity) == ("store-and-forward", Severity.WARNING)
    validate(content(hub=section))


# --- layers


@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        ("modules.camera", {"type": "docker"}, "required"),
        ("modules.cam$era", module(), "name"),
        ("modules.camera.status", "paused", "enum"),
        ("modules.camera.startupOrder", -1, "range"),
        ("modules.camera.status.more", 1, "path"),
        ("modules.camera.color", "red", "unknown-member"),
        ("modules.camera.settings.image", "a:b:c", "image"),
        ("runtime.settings.registryCredentials.r", {"address": "a"}, "required"),
        ("systemModules", {}, "layer-system-modules"),
        ("systemModules.edgeHub.status", "running", "layer-system-modules"),
        ("schemaVersion", "9.9", "schema-version"),
        ("nonsense", 1, "unknown-member"),
    ],
)
def test_what_a_layer_sets_follows_the_rules_of_its_place(path: str, value: Any, rule: str) -> None:
    assert rule in {problem.rule for problem in problems(layer({path: value}))}
    # A `$` in a name breaks the hub's rule for keys as well.
    assert {problem.rule for problem in problems(layer({path: value}))} <= {rule, "limit-key-characters"}


def test_a_bad_route_of_a_layer_is_reported_under_its_name() -> None:
    (problem,) = problems(layer({}, {"routes.up": "FROM nowhere"}))
    assert problem.path == f"{HUB}.routes.up"
    assert problem.message.startswith("Error parsing route up - column 6")


# --- templates


@pytest.mark.parametrize(
    "image", ["${MODULES.temp}", "<registry>/temp:1", "$TEMP_IMAGE", "__IMAGE", "a:${VERSION}", "$REG.example.com/a"]
)
def test_a_placeholder_as_image_is_an_error_that_names_it(image: str) -> None:
    (problem,) = problems(content(agent=agent(modules={"m": module(image)})))
    assert (problem.rule, problem.severity) == ("template-placeholder", Severity.ERROR)
    assert problem.path == f"{AGENT}.modules.m.settings.image"


def test_a_nested_devices_parent_is_no_placeholder() -> None:
    value = content(agent=agent(modules={"m": module("$upstream:443/a:1")}, runtime=registry(address="$upstream:443")))
    assert problems(value) == ()


def test_a_placeholder_that_could_be_meant_is_a_warning() -> None:
    value = content(
        agent=agent(
            runtime=registry(password=OPEN),
            modules={
                "m": module(env={"A": {"value": "$KEY"}, "B": {"value": "https://${HOST}:1"}, "C": {"value": "$5"}})
            },
        ),
        temp={"properties.desired": {"url": ["${URL}"]}},
    )
    assert [
        (problem.path.rpartition(".")[2], problem.severity, problem.message.split()[0]) for problem in problems(value)
    ] == [
        ("password", Severity.WARNING, "this"),
        ("value", Severity.WARNING, "$KEY"),
        ("value", Severity.WARNING, "${HOST}"),
        ("url[0]", Severity.WARNING, "${URL}"),
    ]
    validate(value)


@pytest.mark.parametrize("text", ["$SINK", "${SINK}", "https://$SINK:1/", "a-$SINK_1", "x $_SINK"])
def test_a_variable_is_open_however_it_is_written_and_wherever(text: str) -> None:
    options = json.dumps({"Env": [f"A={text}"]})
    value = content(
        agent=agent(
            modules={"m": module(env={"A": {"value": text}}, settings={"image": "a:1", "createOptions": options})}
        ),
        temp={"properties.desired": {"deep": [{"url": text}]}},
    )
    assert [problem.path.rpartition(".")[2] for problem in problems(value)] == ["createOptions", "value", "url"]
    assert {(problem.rule, problem.severity) for problem in problems(value)} == {
        ("template-placeholder", Severity.WARNING)
    }
    routed = content(hub=hub(routes={"up": f"FROM /* WHERE x = '{text}' INTO $upstream"}))
    assert [(problem.rule, problem.severity) for problem in problems(routed)] == [
        ("template-placeholder", Severity.ERROR)
    ]


@pytest.mark.parametrize(
    "text", ["$$SINK", "\\$SINK", "US$SINK", "$5", "$body.x", "$", "a$", "$sink and more", "$upstream"]
)
def test_a_dollar_that_is_no_variable_is_none(text: str) -> None:
    options = json.dumps({"Labels": {"a": text}})
    spec = module(env={"A": {"value": text}}, settings={"image": "a:1", "createOptions": options})
    assert problems(content(agent=agent(modules={"m": spec}), temp={"properties.desired": {"x": text}})) == ()


def test_a_password_may_have_a_dollar_and_capitals_in_it() -> None:
    assert problems(content(agent=agent(runtime=registry(password="pa$SWORD")))) == ()


# --- all of it


def test_a_refusal_lists_every_problem_on_its_own_line() -> None:
    with pytest.raises(ManifestInvalid) as refused:
        validate(content(agent=agent(modules={"m": module(status="x", restartPolicy="y")}), hub=hub(routes={"r": "?"})))
    lines = str(refused.value).splitlines()
    assert len(lines) == len(refused.value.problems) == 3
    assert lines[0] == f"{AGENT}.modules.m.status: 'x' is not one of running, stopped [enum]"


@settings(derandomize=True, max_examples=300, deadline=None)
@given(anything)
def test_any_json_value_is_answered(value: Any) -> None:
    before = copy.deepcopy(value)
    for each in (value, content_of(value), {"modulesContent": value}, {"modulesContent": {"$edgeAgent": value}}):
        refused = content_problems(each)
        assert set(refused) <= set(problems(each))
        if not refused:
            merge({}, [by_module(each)])
    assert repr(value) == repr(before)


def _locations(value: Any) -> list[tuple[Any, Any]]:
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    return [(value, key) for key, _ in items] + [location for _, item in items for location in _locations(item)]


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.data())
def test_any_value_in_any_place_of_a_manifest_is_answered(data: st.DataObject) -> None:
    value = data.draw(
        st.sampled_from(
            [
                content(
                    agent=agent(runtime=registry(), modules={"m": module(env={"A": {"value": 1}})}),
                    hub=hub(schemaVersion="1.2"),
                ),
                layer({"modules.camera": module(), "runtime.settings.registryCredentials.r": {}}, {"routes.up": "x"}),
            ]
        ).map(copy.deepcopy)
    )
    holder, key = data.draw(st.sampled_from(_locations(value)))
    holder[key] = data.draw(anything)
    problems(value)


def test_nesting_without_end_is_answered() -> None:
    deep: Any = {}
    for _ in range(50_000):
        deep = {"a": deep}
    array: Any = []
    for _ in range(50_000):
        array = [array]
    path = "properties.desired" + ".a" * 50_000
    for value in (
        deep,
        array,
        {"modulesContent": deep},
        content(agent=deep),
        content(agent=agent(modules=deep)),
        content(agent=agent(modules={"m": module(env=deep)})),
        content(hub=hub(routes={"r": deep})),
        content(m={"properties.desired": deep}),
        content(m={"properties.desired": {"a": array}}),
        layer({}, m={path: 1}),
    ):
        assert problems(value) != ()


@pytest.mark.parametrize("password", ["<hunter2>", "${hunter2}", "$hunter2"])
def test_no_message_repeats_a_password_that_looks_like_a_placeholder(password: str) -> None:
    credential = {"username": "u", "password": password, "address": "registry.example.com"}
    runtime = registry()
    runtime["settings"]["registryCredentials"] = {"r": credential}
    found = problems(content(agent=agent(runtime=runtime)))
    assert [problem.rule for problem in found] == ["template-placeholder"]
    assert "hunter2" not in str(found)
