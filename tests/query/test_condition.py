import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from events.query.condition import DEPTH_MAX, lint, parse_condition
from events.query.errors import LENGTH_MAX, ConditionInvalid
from events.query.text import printed
from events.query.tree import MATCH_ALL, MATCH_NONE, And, Expression, IsDefined, Not, Op, Or, compare_property
from tests.fleet.histories import conditions as random_conditions
from tests.query.given import expressions

ENV, SITE = ("tags", "environment"), ("tags", "site")
PROD, NORTH = compare_property(ENV, Op.EQ, "prod"), compare_property(SITE, Op.EQ, "north")
X = compare_property(("tags", "x"), Op.EQ, 1)


def refused(text: str) -> ConditionInvalid:
    with pytest.raises(ConditionInvalid) as caught:
        parse_condition(text)
    return caught.value


def error_of(text: str) -> ConditionInvalid | None:
    try:
        parse_condition(text)
    except ConditionInvalid as error:
        return error
    return None


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", MATCH_NONE),
        (" \n\t ", MATCH_NONE),
        ("*", MATCH_ALL),
        ("  * ", MATCH_ALL),
        ("tags.environment = 'prod'", PROD),
        ("tags.environment='prod'", PROD),
        ("'prod' = tags.environment", PROD),
        ("TAGS.environment = 'prod'", PROD),
        ("tags.Environment = 'prod'", compare_property(("tags", "Environment"), Op.EQ, "prod")),
        ("deviceId = 'linux1'", compare_property(("deviceId",), Op.EQ, "linux1")),
        ("DeviceID = 'linux1'", compare_property(("deviceId",), Op.EQ, "linux1")),
        (
            "properties.reported.devicemodel = '4000x'",
            compare_property(("properties", "reported", "devicemodel"), Op.EQ, "4000x"),
        ),
        ("Properties.Reported.a.b.c = 1", compare_property(("properties", "reported", "a", "b", "c"), Op.EQ, 1)),
        ("tags.a.[[b c]] = 1", compare_property(("tags", "a", "b c"), Op.EQ, 1)),
        ("tags.name = 'it''s'", compare_property(("tags", "name"), Op.EQ, "it's")),
        ("tags.name = ''", compare_property(("tags", "name"), Op.EQ, "")),
        ("tags.name = 'a AND (b'", compare_property(("tags", "name"), Op.EQ, "a AND (b")),
        ("tags.n <> 1", compare_property(("tags", "n"), Op.NE, 1)),
        ("tags.n != 1", compare_property(("tags", "n"), Op.NE, 1)),
        ("tags.n < -1.5", compare_property(("tags", "n"), Op.LT, -1.5)),
        ("tags.n <= +2", compare_property(("tags", "n"), Op.LE, 2)),
        ("tags.n > 1e3", compare_property(("tags", "n"), Op.GT, 1000.0)),
        ("tags.n >= .5", compare_property(("tags", "n"), Op.GE, 0.5)),
        ("1 < tags.n", compare_property(("tags", "n"), Op.GT, 1)),
        ("2 >= tags.n", compare_property(("tags", "n"), Op.LE, 2)),
        ("tags.on = true", compare_property(("tags", "on"), Op.EQ, literal=True)),
        ("tags.on != FALSE", compare_property(("tags", "on"), Op.NE, literal=False)),
        ("is_defined(tags.site)", IsDefined(SITE)),
        ("IS_DEFINED ( tags.site )", IsDefined(SITE)),
        ("tags.is_defined = 1", compare_property(("tags", "is_defined"), Op.EQ, 1)),
        ("tags.order = 1", compare_property(("tags", "order"), Op.EQ, 1)),
        ("tags.and-or = 1", compare_property(("tags", "and-or"), Op.EQ, 1)),
    ],
)
def test_a_condition_reads_as_its_tree(text: str, tree: Expression) -> None:
    assert parse_condition(text) == tree


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("tags.environment = 'prod' AND tags.site = 'north'", And((PROD, NORTH))),
        ("tags.environment = 'prod' or tags.site = 'north' and tags.x = 1", Or((PROD, And((NORTH, X))))),
        ("(tags.environment = 'prod' OR tags.site = 'north') AND tags.x = 1", And((Or((PROD, NORTH)), X))),
        ("NOT tags.environment = 'prod' AND tags.x = 1", And((Not(PROD), X))),
        ("NOT (tags.environment = 'prod' AND tags.x = 1)", Not(And((PROD, X)))),
        ("NOT NOT tags.x = 1", Not(Not(X))),
        ("((tags.x = 1))", X),
        ("tags.environment = 'prod' AND (tags.site = 'north' AND tags.x = 1)", And((PROD, NORTH, X))),
        ("tags.environment = 'prod' NOT tags.site = 'north'", And((PROD, Not(NORTH)))),
        ("tags.environment = 'prod' AND tags.x = 1 NOT tags.site = 'north'", And((PROD, X, Not(NORTH)))),
        ("tags.environment = 'prod' OR tags.x = 1 NOT tags.site = 'north'", Or((PROD, And((X, Not(NORTH)))))),
    ],
)
def test_not_binds_tighter_than_and_and_tighter_than_or(text: str, tree: Expression) -> None:
    assert parse_condition(text) == tree


def test_a_not_without_an_and_is_flagged_with_its_column() -> None:
    (note,) = lint("tags.a = 'x' NOT tags.b = 'y'")
    assert (note.column, "AND NOT" in note.message) == (14, True)
    assert lint("tags.a = 'x' AND NOT tags.b = 'y' OR NOT (NOT tags.c = 1)") == ()
    assert lint("tags.a = ' NOT '") == ()


def test_an_error_has_a_column_a_caret_below_it_and_the_corrected_text() -> None:
    error = refused('tags.environment = "prod" AND tags.x = 1')
    assert (error.column, error.corrected) == (20, "tags.environment = 'prod' AND tags.x = 1")
    first, shown, caret, write = str(error).splitlines()
    assert first.startswith("target condition, column 20: double quotes")
    assert shown[caret.index("^")] == '"'
    assert write == "  write: tags.environment = 'prod' AND tags.x = 1"
    assert parse_condition(error.corrected or "") == And((PROD, X))


@pytest.mark.parametrize(
    ("text", "column", "said", "corrected"),
    [
        ('tags.a = "it\'s"', 10, "double quotes", "tags.a = 'it''s'"),
        ('tags.a = "open', 10, "double quotes", "tags.a = 'open'"),
        ("tags.a == 1", 8, "use =", "tags.a = 1"),
        ("tags.a = prod", 10, "single quotes", "tags.a = 'prod'"),
        ("tags.a IN ['x', 'y']", 8, "only for queries", "(tags.a = 'x' OR tags.a = 'y')"),
        ("tags.a NIN [1, 2]", 8, "only for queries", "(tags.a != 1 AND tags.a != 2)"),
        ("tags.a = 'open", 10, "not closed", None),
        ("tags.a = null", 10, "is_defined", None),
        ("tags.a = ", 9, "ends too early", None),
        ("tags.a", 7, "ends too early", None),
        ("(tags.a = 1", 12, "ends too early", None),
        ("tags.a = 1)", 11, "unexpected ')'", None),
        ("tags.a = 1 tags.b = 2", 12, "unexpected", None),
        ("tags.a = 1 AND", 15, "ends too early", None),
        ("= 1", 1, "unexpected", None),
        ("tags.a < true", 8, "booleans have no order", None),
        ("tags = 1", 1, "name of a tag", None),
        ("properties.reported = 1", 1, "name of a property", None),
        ("properties.desired.a = 1", 1, "It contains: properties.desired.a", None),
        ("capabilities.iotEdge = true", 1, "It must be a filter condition", None),
        ("deviceId.x = 1", 10, "no properties", None),
        ("tags.a = 4503599627370497", 10, "2^52", None),
        ("tags.a = 1e999", 10, "too large", None),
        ("tags.a = \u0663", 10, "unexpected '\u0663'", None),
        ("tags.a = 1\u0663", 10, "unexpected", None),
        ("tags.a > 1.\u0e53", 10, "unexpected", None),
        ("tags.a = 1e\uff13", 10, "unexpected", None),
        ("tags.a = 1 \x00", 12, "control characters", None),
        ("tags.a = '\ud800'", 11, "surrogates", None),
    ],
)
def test_what_cannot_be_read_is_told_where_and_why(text: str, column: int, said: str, corrected: str | None) -> None:
    error = refused(text)
    assert (error.column, error.corrected) == (column, corrected)
    assert said in error.reason
    if corrected is not None:
        parse_condition(corrected)


def test_length_is_bounded() -> None:
    longest = "tags.a = '" + "x" * (LENGTH_MAX - 11) + "'"
    assert len(longest) == LENGTH_MAX
    parse_condition(longest)
    error = refused(longest + " ")
    assert (error.column, str(LENGTH_MAX) in error.reason) == (LENGTH_MAX + 1, True)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 4000 + "tags.a = 1" + ")" * 4000,
        "(" * 8000,
        "NOT " * 2000 + "tags.a = 1",
        "NOT (" * 1000 + "tags.a = 1" + ")" * 1000,
        "(" * (DEPTH_MAX + 1) + "tags.a = 1" + ")" * (DEPTH_MAX + 1),
    ],
)
def test_depth_is_bounded_without_a_crash(text: str) -> None:
    assert str(DEPTH_MAX) in refused(text).reason


def test_the_deepest_and_the_widest_condition_are_read() -> None:
    deep = "(" * DEPTH_MAX + "tags.a = 1" + ")" * DEPTH_MAX
    assert parse_condition(deep) == compare_property(("tags", "a"), Op.EQ, 1)
    assert printed(parse_condition("NOT " * DEPTH_MAX + "tags.a = 1")).count("NOT") == DEPTH_MAX
    wide = parse_condition(" OR ".join(["tags.a=1"] * 650))
    assert isinstance(wide, Or)
    assert len(wide.terms) == 650


paths = st.lists(st.text(max_size=4).filter(lambda name: name and not set(name) & set("[]")), min_size=1, max_size=3)
literals = st.text(max_size=6) | st.booleans() | st.integers(-(2**52), 2**52) | st.floats(allow_nan=False, width=32)


def is_text(text: str) -> bool:
    return all(ord(c) >= 32 and not 0xD800 <= ord(c) < 0xE000 for c in text)


leaves = st.one_of(
    st.builds(
        lambda names, op, literal: compare_property(
            ("tags", *names), op if not isinstance(literal, bool) else Op.NE, literal
        ),
        paths.filter(lambda names: all(map(is_text, names))),
        st.sampled_from(Op),
        literals.filter(
            lambda value: is_text(value) if isinstance(value, str) else value not in {float("inf"), -float("inf")}
        ),
    ),
    st.builds(
        lambda names: IsDefined(("properties", "reported", *names)), paths.filter(lambda n: all(map(is_text, n)))
    ),
    st.just(compare_property(("deviceId",), Op.EQ, "a'b")),
)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(expressions(leaves))
@example(MATCH_ALL)
@example(MATCH_NONE)
def test_a_printed_tree_reads_as_the_same_tree(tree: Expression) -> None:
    assert parse_condition(printed(tree)) == tree


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    st.text(max_size=40)
    | st.text("tags.properties.reported =!<>()'\"[]0123456789.eE+-NOTandORis_defined\ud800\x00", max_size=40)
)
@example("[[")
@example("tags.[[]] = 1")
@example("0" * 5000 + " = tags.a")
@example("tags.a = " + "9" * 5000)
@example("is_defined(" * 90)
def test_any_text_is_a_tree_or_an_error_that_points_into_it(text: str) -> None:
    error = error_of(text)
    if error is None:
        lint(text)
        return
    assert 1 <= error.column <= len(text) + 1
    assert str(error)
    assert error.corrected != text


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    random_conditions, st.integers(0, 60), st.sampled_from(["(", ")", "'", '"', " AND ", "NOT", "=", "[", "\n", "0"])
)
def test_a_condition_with_a_typo_never_crashes(text: str, position: int, typo: str) -> None:
    error = error_of(text[:position] + typo + text[position:])
    assert error is None or error.reason
