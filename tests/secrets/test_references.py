import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import canonical
from events.manifest.validate import problems
from events.secrets.errors import SecretTextInvalid
from events.secrets.references import SECRET_TEXT, Secret, extract, mask, materialise, references
from tests.manifest.contents import agent, content, layer, module
from tests.secrets.samples import PASSWORD, TOKEN, marked, numbered, registry, runtime, with_password, with_variable

DESIRED = "properties.desired"
S1 = {"$secret": "s1"}


def taken(given: Any) -> tuple[Any, dict[str, str]]:
    answer, found = extract(given, new_id=numbered())
    return answer, {secret.id: secret.plaintext for secret in found}


def test_a_registry_password_becomes_a_reference() -> None:
    assert taken(with_password()) == (with_password(S1), {"s1": PASSWORD})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("runtime", runtime),
        ("runtime.settings", lambda password: {"registryCredentials": {"acr": registry(password)}}),
        ("runtime.settings.registryCredentials", lambda password: {"acr": registry(password)}),
        ("runtime.settings.registryCredentials.acr", registry),
        ("runtime.settings.registryCredentials.acr.password", lambda password: password),
    ],
)
def test_a_password_is_found_however_deep_a_layer_sets_it(path: str, value: Any) -> None:
    assert taken(layer({path: value(PASSWORD)})) == (layer({path: value(S1)}), {"s1": PASSWORD})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("modules", lambda text: {"temp": {"env": {"TOKEN": {"value": text}}}}),
        ("modules.temp", lambda text: {"env": {"TOKEN": {"value": text}}}),
        ("modules.temp.env", lambda text: {"TOKEN": {"value": text}}),
        ("modules.temp.env.TOKEN", lambda text: {"value": text}),
        ("modules.temp.env.TOKEN.value", lambda text: text),
        ("systemModules", lambda text: {"edgeHub": {"env": {"TOKEN": {"value": text}}}}),
    ],
)
def test_a_variable_is_secret_where_its_value_says_so(path: str, value: Any) -> None:
    assert taken(layer({path: value(marked())})) == (layer({path: value(S1)}), {"s1": TOKEN})


def test_a_variable_that_nobody_marked_stays() -> None:
    assert taken(with_variable(TOKEN)) == (with_variable(TOKEN), {})


def test_a_reference_that_stands_stays() -> None:
    kept = with_password({"$secret": "old"})
    assert taken(kept) == (kept, {})
    assert taken(with_variable({"$secret": "old"}))[1] == {}


def test_every_secret_gets_an_id_of_its_own_even_for_the_same_text() -> None:
    credentials = {"a": registry(), "b": registry()}
    answer, found = taken(layer({"runtime.settings.registryCredentials": credentials}))
    assert found == {"s1": PASSWORD, "s2": PASSWORD}
    assert references(answer) == {"s1", "s2"}


def test_the_given_content_is_not_changed() -> None:
    given_content = with_password()
    before = copy.deepcopy(given_content)
    taken(given_content)
    assert given_content == before


def test_what_looks_like_a_password_elsewhere_is_not_one() -> None:
    elsewhere = content(temp={DESIRED: {"runtime": runtime()}, f"{DESIRED}.password": "x"})
    assert taken(elsewhere) == (elsewhere, {})


@pytest.mark.parametrize("password", [5, True, ["x"], {"x": "y"}, marked(5), "\ud800", "x" * 4097, "ü" * 2049])
def test_a_password_that_could_not_be_one_is_refused_and_not_quoted(password: Any) -> None:
    with pytest.raises(SecretTextInvalid, match=r"runtime\.settings\.registryCredentials\.acr\.password") as caught:
        taken(with_password(password))
    assert "x" * 10 not in str(caught.value)


def test_a_layer_that_sets_something_below_a_password_is_refused() -> None:
    with pytest.raises(SecretTextInvalid):
        taken(layer({"runtime.settings.registryCredentials.acr.password.of": PASSWORD}))


@pytest.mark.parametrize("text", [5, None, "", " ", {"a": "b"}, "x" * 4097])
def test_a_marked_variable_that_is_no_text_is_refused(text: Any) -> None:
    with pytest.raises(SecretTextInvalid, match=r"modules\.temp\.env\.TOKEN\.value"):
        taken(with_variable(marked(text)))


@pytest.mark.parametrize("password", ["", " ", None])
def test_a_blank_password_is_left_for_the_rules_to_judge(password: Any) -> None:
    assert taken(with_password(password)) == (with_password(password), {})


def test_a_content_without_its_secrets_passes_the_manifest_rules() -> None:
    both = agent(runtime=runtime(), modules={"temp": module(env={"TOKEN": {"value": marked()}})})
    answer, found = taken(content(agent=both))
    assert len(found) == 2
    assert problems(answer) == ()


def test_secrets_put_back_give_the_content_as_it_was() -> None:
    answer, found = taken(with_password())
    assert materialise(answer, found.__getitem__) == with_password()
    assert materialise(taken(with_variable(marked()))[0], {"s1": TOKEN}.__getitem__) == with_variable(TOKEN)


def test_a_masked_value_shows_neither_secret_nor_id() -> None:
    assert mask(with_password({"$secret": "s1"})) == with_password("***")


def test_only_an_object_with_nothing_else_is_a_reference() -> None:
    odd = {"a": {"$secret": "x", "b": 1}, "c": {"$secret": 5}, "d": [{"$secret": "y"}]}
    assert references(odd) == {"y"}
    assert mask(odd) == {**odd, "d": ["***"]}


def test_no_depth_of_nesting_is_too_deep() -> None:
    deep: Any = {"$secret": "s1"}
    for number in range(50_000):
        deep = [deep] if number % 2 else {"a": deep}
    assert references(deep) == {"s1"}
    materialised = materialise(deep, lambda _: "x")
    assert references(materialised) == frozenset()
    extract({"modulesContent": {"$edgeAgent": {DESIRED: deep}}}, new_id=numbered())
    # Taken apart from the outside, or freeing it would recurse.
    for value in (deep, materialised):
        inner = value
        while isinstance(inner, list | dict):
            inner = inner.pop() if isinstance(inner, list) else inner.popitem()[1]


def test_a_secret_does_not_show_when_it_is_printed() -> None:
    secret = Secret("s1", PASSWORD)
    shown = f"{secret!r} {secret} {secret.__rich_repr__()} {[secret]}"
    assert PASSWORD not in shown
    assert "s1" in shown


_names = st.sampled_from(["runtime", "settings", "registryCredentials", "acr", "password", "modules", "env", "value"])
_values = st.recursive(
    st.sampled_from([PASSWORD, "", None, 5, {"$secret": "old"}, {SECRET_TEXT: TOKEN}]),
    lambda below: st.dictionaries(_names | st.just(SECRET_TEXT), below, max_size=3) | st.lists(below, max_size=2),
    max_leaves=8,
)
_paths = st.lists(_names, max_size=6).map(lambda names: ".".join((DESIRED, *names)))
contents = st.dictionaries(_paths, _values, max_size=3).map(
    lambda paths: {"modulesContent": {"$edgeAgent": paths, "temp": {}}}
)


@given(contents | _values)
@settings(derandomize=True, deadline=None, max_examples=200)
def test_any_value_is_answered_without_passwords_and_puts_back_together(value: Any) -> None:
    before = canonical.encode(value)
    try:
        answer, found = taken(value)
    except SecretTextInvalid as refusal:
        text = str(refusal)
        if PASSWORD in text or TOKEN in text:
            pytest.fail("a refusal quotes a secret")
        return
    assert canonical.encode(value) == before
    texts = {"old": "old", **found}
    unmarked = materialise(answer, texts.__getitem__)
    again, found_again = extract(answer, new_id=numbered())
    assert (again, found_again) == (answer, ())
    assert references(unmarked) == frozenset()
    assert set(found) <= references(answer)
