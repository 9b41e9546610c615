"""The small languages inside a manifest: routes, createOptions, image references."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.manifest import create_options
from events.manifest.errors import CreateOptionsInvalid, ImageInvalid, RouteInvalid
from events.manifest.image import DOCKER_HUB, normalize, registry_of
from events.manifest.routes import Route, parse_route


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("FROM /* INTO $upstream", Route("/", None)),
        ("select * from /messages/* into $Upstream", Route("/messages/", None)),
        (
            "FROM /messages/modules/select/outputs/where INTO $upstream",
            Route("/messages/modules/select/outputs/where", None),
        ),
        (
            """FROM /twinChangeNotifications INTO BrokeredEndpoint('/modules/a"b/inputs/in/')""",
            Route("/twinChangeNotifications", '/modules/a"b/inputs/in/'),
        ),
        (r'FROM /a INTO brokeredEndpoint("/modules/\u0061\"/inputs/in")', Route("/a", '/modules/a"/inputs/in')),
        ("  FROM /a\n WHERE  NOT IS_DEFINED($connectionModuleId)  INTO $upstream  ", Route("/a", None)),
    ],
)
def test_a_route_is_taken_apart(text: str, route: Route) -> None:
    assert parse_route(text) == route


@pytest.mark.parametrize(
    "condition",
    [
        "true",
        "a = 1 AND b <> 'x' or c != \"INTO\"",
        "$body.readings[0].value >= -1.5e3 * (2 + 0x1F) % 3",
        "{$contentType} = 'json' ?? undefined",
        "NOT not -x",
        "a || b || 'c'",
        "starts_with(lower(name), 'pump') AND index_of(name, 'x', 1) < 0",
        "android = notable and order = 1",
        "temp-outside > 3",
        "abs() = 1",
    ],
)
def test_a_route_can_have_any_condition_of_the_grammar(condition: str) -> None:
    assert parse_route(f"FROM /a WHERE {condition} INTO $upstream") == Route("/a", None)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("", 1),
        ("   ", 4),
        ("FORM /a INTO $upstream", 1),
        ("SELECT FROM /a INTO $upstream", 8),
        ("FROM INTO $upstream", 6),
        ("FROM a INTO $upstream", 6),
        ("FROM / INTO", 12),
        ("FROM /a WHERE INTO $upstream", 15),
        ("FROM /a WHERE x == 1 INTO $upstream", 18),
        ("FROM /a WHERE (x INTO $upstream", 18),
        ("FROM /a WHERE x = 'y INTO $upstream", 19),
        ("FROM /a WHERE nonsense(x) INTO $upstream", 15),
        ("FROM /a INTO upstream", 22),
        ("FROM /a INTO $cloud", 14),
        ("FROM /a INTO $upstream;", 23),
        ("FROM /a INTO $upstream INTO $upstream", 24),
        ("FROM /a\nWHERE x\nINTO $cloud", 22),
        ("FROM /a INTO endpoint('/modules/a/inputs/b')", 14),
        ("FROM /a INTO BrokeredEndpoint('/modules/a/inputs')", 31),
        ("FROM /a INTO BrokeredEndpoint('/modules/a/inputs/b/c')", 31),
        ("FROM /a INTO BrokeredEndpoint('/modules/a/inputs/b\")", 31),
        ("FROM /a WHERE " + "(" * 65 + "x" + ")" * 65 + " INTO $upstream", 79),
        ("FROM /" + "a" * 5000 + " INTO $upstream", 4097),
    ],
)
def test_what_is_no_route_is_refused_at_its_column(text: str, column: int) -> None:
    with pytest.raises(RouteInvalid) as refused:
        parse_route(text)
    assert refused.value.column == column
    assert str(refused.value).startswith(f"column {column}: ")


ROUTE_WORDS = st.sampled_from(
    [
        *("FROM", "/", "*", "WHERE", "INTO", "$upstream", "BrokeredEndpoint", "(", ")", "NOT", "AND", "x", "1", "-"),
        "'",
        '"',
    ]
)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(ROUTE_WORDS | st.text(max_size=3), max_size=12).map(" ".join))
def test_any_text_is_a_route_or_refused(text: str) -> None:
    try:
        parse_route(text)
    except RouteInvalid as refused:
        assert 1 <= refused.column <= len(text) + 1  # noqa: PT017


def test_a_long_chain_of_operators_is_no_deep_nesting() -> None:
    parse_route("FROM /a WHERE " + "NOT " * 1000 + "x INTO $upstream")


@pytest.mark.parametrize(
    ("image", "normal"),
    [
        ("temp:1", "temp:1"),
        (" temp ", "temp:latest"),
        ("registry.example.com/team/temp", "registry.example.com/team/temp:latest"),
        ("localhost:5000/temp", "localhost:5000/temp:latest"),
        ("$upstream:443/temp:1.0", "$upstream:443/temp:1.0"),
        ("temp@sha256:0123", "temp@sha256:0123"),
        ("//temp", "//temp:latest"),
    ],
)
def test_an_image_without_a_tag_means_latest(image: str, normal: str) -> None:
    assert normalize(image) == normal
    assert normalize(normal) == normal


@pytest.mark.parametrize("image", ["", "  ", "temp:1:2", "a.example.com/temp:1:2", "temp:", ":1", "team/"])
def test_what_names_no_image_is_refused(image: str) -> None:
    with pytest.raises(ImageInvalid):
        normalize(image)


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("temp", None),
        ("temp:1", None),
        ("team/temp", DOCKER_HUB),
        ("host/temp", DOCKER_HUB),
        ("registry.example.com/temp", "registry.example.com"),
        ("localhost:5000/team/temp", "localhost:5000"),
        ("$upstream:443/temp", "$upstream:443"),
    ],
)
def test_an_images_first_component_is_its_registry_if_it_looks_like_a_host(image: str, registry: str | None) -> None:
    assert registry_of(image) == registry


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, ""),
        ({"createOptions": "{}", "image": "x"}, "{}"),
        ({"createOptions02": "c", "createOptions": "a", "createOptions01": "b"}, "abc"),
        ({"createoptions": "a", "CREATEOPTIONS1": "b"}, "ab"),
        (
            {"createOptions": "0", **{f"createOptions{number:02}": str(number % 10) for number in range(1, 12)}},
            "012345678901",
        ),
    ],
)
def test_chunks_are_joined_by_their_numbers(settings: dict[str, object], text: str) -> None:
    assert create_options.join(settings) == text


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        (["", "02"], "expected createOptions01 found createOptions02"),
        (["", "01", "03"], "expected createOptions02 found createOptions03"),
        (["", "1", "01"], "expected createOptions02 found createOptions01"),
        (["", "00"], "expected createOptions01 found createOptions00"),
        (["00", "01"], 'expected empty field number but found "00"'),
        (["01"], 'expected empty field number but found "01"'),
        (["", "9" * 500], "expected createOptions01 found createOptions999…"),
    ],
)
def test_a_gap_between_chunks_is_named_as_the_agent_names_it(keys: list[str], what: str) -> None:
    with pytest.raises(CreateOptionsInvalid) as refused:
        create_options.join({f"createOptions{key}": "" for key in keys})
    assert str(refused.value) == f'Error while parsing chunked field "createOptions", {what}'


def test_a_chunk_that_is_no_string_is_refused() -> None:
    with pytest.raises(CreateOptionsInvalid, match="expected a string in createOptions01"):
        create_options.join({"createOptions": "", "createOptions01": {}})


def test_more_chunks_than_the_agent_reads_are_refused() -> None:
    keys = ["createOptions", *(f"createOptions{number}" for number in range(1, 101))]
    with pytest.raises(CreateOptionsInvalid, match="at most 100 chunks"):
        create_options.join(dict.fromkeys(keys, ""))
    with pytest.raises(CreateOptionsInvalid, match="at most 51200 characters"):
        create_options.split("x" * 51_201)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.integers(0, 3000), st.text(min_size=1, max_size=9))
def test_what_was_split_joins_to_the_same_text(length: int, piece: str) -> None:
    text = (piece * length)[:length]
    chunks = create_options.split(text)
    assert create_options.join(dict(reversed(chunks.items()))) == text
    assert all(len(chunk) <= 512 and create_options.is_chunk(key) for key, chunk in chunks.items())


@pytest.mark.parametrize("text", ["", "  ", "null", "{}"])
def test_blank_and_null_mean_no_options(text: str) -> None:
    assert create_options.parse(text) == {}


@pytest.mark.parametrize("text", ["{", "[1,2,3]", '"text"', "1", "{'a': 1}", "\ud800", '{"a":' * 100_000])
def test_options_that_are_no_json_object_are_refused(text: str) -> None:
    with pytest.raises(CreateOptionsInvalid):
        create_options.parse(text)
