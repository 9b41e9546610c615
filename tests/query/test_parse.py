import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from events.query.condition import DEPTH_MAX as CONDITION_DEPTH_MAX
from events.query.errors import LENGTH_MAX, QueryInvalid
from events.query.evaluate import compiled, holds
from events.query.grammar import DEPTH_MAX
from events.query.parse import parse
from events.query.system_metric import targeted_query
from events.query.text import printed_query
from events.query.tree import Or, Query, QuerySource, keys, paths, paths_of
from tests.query.given import queries


def refused(text: str) -> QueryInvalid:
    with pytest.raises(QueryInvalid) as caught:
        parse(text)
    return caught.value


def error_of(text: str) -> QueryInvalid | None:
    try:
        parse(text)
    except QueryInvalid as error:
        return error
    return None


# A printed tree tells 1 from 1.0 and true, which are equal in Python.
@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("select *", "SELECT * FROM devices"),
        ("SELECT * FROM devices", "SELECT * FROM devices"),
        ("select deviceId from devices", "SELECT deviceId FROM devices"),
        (
            "SELECT LastActivityTime FROM devices WHERE status='enabled'",
            "SELECT lastActivityTime FROM devices WHERE status = 'enabled'",
        ),
        (
            "select deviceId from devices where capabilities.iotEdge = true and tags.a='b' OR tags.c='d'",
            "SELECT deviceId FROM devices WHERE (capabilities.iotEdge = true AND tags.a = 'b') OR tags.c = 'd'",
        ),
        (
            "SELECT tags.site AS s, COUNT() AS n FROM devices GROUP BY tags.site",
            "SELECT tags.site AS s, COUNT() AS n FROM devices GROUP BY tags.site",
        ),
        ("SELECT COUNT() AS n FROM devices", "SELECT COUNT() AS n FROM devices"),
        ("select count(*), Avg(tags.x)", "SELECT COUNT(), AVG(tags.x) FROM devices"),
        (
            "select sum(a.b) as s, min(a.b), max(a.b) from devices.jobs",
            "SELECT SUM([[a]].b) AS s, MIN([[a]].b), MAX([[a]].b) FROM devices.jobs",
        ),
        ("SELECT TOP 10 * FROM DEVICES.Modules", "SELECT TOP 10 * FROM devices.modules"),
        (
            "select Devices.capabilities.iotEdge, devices.modules.ModuleID",
            "SELECT capabilities.iotEdge, moduleId FROM devices",
        ),
        ("select Tags.Site, Properties.Reported.X", "SELECT tags.Site, properties.reported.X FROM devices"),
        ("select tags.from AS where from devices", "SELECT tags.from AS where FROM devices"),
        ("select [[odd root]].[[a]b]] as [[x y]]", "SELECT [[odd root]].[[a]b]] AS [[x y]] FROM devices"),
        ("select devices.devices.tags.a, devices", "SELECT tags.a, [[devices]] FROM devices"),
        ("select managedBy", "SELECT [[managedBy]] FROM devices"),
    ],
)
def test_a_query_reads_as_its_tree(text: str, tree: str) -> None:
    assert printed_query(parse(text)) == tree
    assert parse(tree) == parse(text)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("tags.a = 1 or tags.b = 2 and tags.c = 3", "tags.a = 1 OR (tags.b = 2 AND tags.c = 3)"),
        ("not tags.a = 1 and tags.b = 2", "NOT tags.a = 1 AND tags.b = 2"),
        ("not (tags.a = 1 and tags.b = 2)", "NOT (tags.a = 1 AND tags.b = 2)"),
        ("tags.a = 1 and (tags.b = 2 and tags.c = 3)", "tags.a = 1 AND tags.b = 2 AND tags.c = 3"),
        ("tags.a + 2 * 3 - 4 < 5", "(tags.a + (2 * 3)) - 4 < 5"),
        ("(tags.a + 2) * 3 <= 5 % 2 / 1", "(tags.a + 2) * 3 <= (5 % 2) / 1"),
        ("-tags.a > - -1", "0 - tags.a > 1"),
        ("-tags.a > 1", "0 - tags.a > 1"),
        ("tags.a -1 = +2", "(tags.a - 1) = 2"),
        ("1 <> tags.a", "1 != tags.a"),
        ("tags.a >= 0x1F", "tags.a >= 31"),
        ("tags.a = 1.5e3", "tags.a = 1500.0"),
        ("tags.a = .5", "tags.a = 0.5"),
        ("tags.a = -9223372036854775807", "tags.a = -9223372036854775807"),
        ("tags.a IN ['x', -1, +2, null, true]", "tags.a IN ['x', -1, 2, null, true]"),
        ("tags.a nin [1]", "NOT tags.a IN [1]"),
        ("Is_Defined ( tags.a )", "IS_DEFINED(tags.a)"),
        (
            "tags.a = undefined or tags.a = NULL or tags.a = False",
            "tags.a = undefined OR tags.a = null OR tags.a = false",
        ),
        ("tags.a", "tags.a"),
        ("(tags.a = 1) = (tags.b = 2)", "(tags.a = 1) = (tags.b = 2)"),
        ('tags.a = "it\'s"', "tags.a = 'it\\'s'"),
        (r"tags.a = 'it\'s \"so\" \\ \/ \u0041\n'", "tags.a = 'it\\'s \\\"so\\\" \\\\ / A\\n'"),
        (r"tags.a = '\ud83d\ude00'", "tags.a = '😀'"),
        ("tags.a = 'AND (b'", "tags.a = 'AND (b'"),
        ("tags.in.not.true.order = 1", "tags.in.not.true.order = 1"),
    ],
)
def test_a_condition_reads_as_its_tree(text: str, tree: str) -> None:
    read = printed_query(parse(f"select * where {text}")).removeprefix("SELECT * FROM devices WHERE ")
    assert read.replace("(", "").replace(")", "") == tree.replace("(", "").replace(")", "")
    assert parse(f"select * where {tree}") == parse(f"select * where {text}")


APPLIED = (
    "select deviceId from devices.modules where moduleId = '$edgeAgent' and configurations.[[c12]].status = 'Applied'"
)
ANSWERED = " and properties.desired.$version = properties.reported.lastDesiredVersion"


@pytest.mark.parametrize(
    "text",
    [
        APPLIED,
        APPLIED + ANSWERED + " and properties.reported.lastDesiredStatus.code = 200",
        APPLIED + ANSWERED + " and properties.reported.lastDesiredStatus.code != 200",
    ],
)
def test_a_stored_metric_is_read(text: str) -> None:
    query = parse(text)
    assert query.source is QuerySource.MODULES
    assert printed_query(query).lower() == text.replace("[[c12]]", "c12").lower()


def test_from_may_be_left_out() -> None:
    assert parse("select *").source is QuerySource.DEVICES
    assert parse("select *") == Query()


def test_a_key_is_the_alias_or_the_last_name_and_never_there_twice() -> None:
    query = parse(
        "select tags.a, properties.reported.a, count(), count(), avg(tags.x) as count2 group by tags.a, properties.reported.a"
    )
    assert keys(query) == ("a", "a2", "count", "count3", "count2")
    assert keys(parse("select *")) == ()


def test_the_paths_of_a_query_are_those_it_names_anywhere() -> None:
    query = parse(
        "select sum(tags.a) where tags.b + tags.c > 1 and is_defined(tags.d) or not tags.e in [1] group by status"
    )
    assert paths_of(query.where) == {("tags", "b"), ("tags", "c"), ("tags", "d"), ("tags", "e")}
    assert paths(query) == paths_of(query.where) | {("tags", "a"), ("status",)}


def test_an_error_has_a_column_and_a_caret_below_it_and_shows_little_of_the_query() -> None:
    error = refused("SELECT * FROM devices WHERE tags.site == 'north' AND tags.rack = 'r1' AND tags.x = 1")
    first, shown, caret = str(error).splitlines()
    assert first == "query, column 40: == is not an operator; use ="
    assert shown[caret.index("^")] == "="
    assert len(shown.strip(" …")) == 40


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("", 1, "ends too early; expected SELECT"),
        ("   ", 1, "expected SELECT"),
        ("tags.a = 1", 1, "unexpected 'tags.a'; expected SELECT"),
        ("select", 7, "expected a property or *"),
        ("select a b", 10, "expected a comma, FROM, WHERE, GROUP BY or the end of the query"),
        ("select * from cars", 15, "devices, devices.modules or devices.jobs"),
        ("select * where", 15, "ends too early; expected a property or a value"),
        ("select * where tags.a =", 24, "ends too early; expected a property or a value"),
        ("select * where tags.a = 'open", 25, "not closed"),
        ("select * where tags.a = 'it''s'", 29, "needs a backslash before it"),
        ("select * where tags.a in 'x'", 26, "expected a list in [ ]"),
        ("select * where tags.a in tags.b", 26, "expected a list in [ ]"),
        ("select * where tags.a in []", 27, "expected a value"),
        ("select * where tags.a in [[1]]", 27, "expected a value"),
        ("select * where tags.a = [1]", 25, "unexpected '['"),
        ("select * where tags.a = 1 = 2", 27, "unexpected '='"),
        ("select * where (tags.a = 1", 27, "expected )"),
        ("select * where tags.a = 1)", 26, "unexpected ')'"),
        ("select * where tags.a = 1 not tags.b = 2", 27, "unexpected 'not'"),
        ("select * where tags.a = 1 group tags.a", 33, "expected BY"),
        ("select * group by tags.a", 19, "SELECT * cannot be grouped"),
        ("select deviceId, count()", 8, "select only properties of its GROUP BY"),
        ("select count(), tags.a, tags.b group by tags.a", 25, "select only properties of its GROUP BY"),
        ("select tags.a group by tags.b", 8, "select only properties of its GROUP BY"),
        ("select tags.a as x, tags.b as x", 21, "same alias"),
        ("select count(count())", 19, "not in another aggregate"),
        ("select sum(avg(tags.a))", 15, "not in another aggregate"),
        ("select * where count() > 1", 21, "allowed only in SELECT"),
        ("select * where abs(tags.a) > 1", 19, "unknown function abs"),
        ("select sum()", 8, "SUM needs a property"),
        ("select count(tags.a)", 14, "COUNT has no argument"),
        ("select top 0 *", 12, "whole number of at least 1"),
        ("select top 1.5 *", 12, "whole number of at least 1"),
        ("select top *", 12, "expected a value"),
        ("select * where tags.a = 1abc", 25, "unexpected '1abc'"),
        ("select * where tags.a = 9223372036854775808", 25, "2^63 - 1"),
        ("select * where tags.a = 0xFFFFFFFFFFFFFFFF", 25, "2^63 - 1"),
        ("select * where tags.a = 1e999", 25, "too large"),
        (r"select * where tags.a = 'a\q'", 27, "unknown escape"),
        (r"select * where tags.a = 'a\u12'", 27, "unknown escape"),
        (r"select * where tags.a = '\ud83d'", 26, "unknown escape"),
        ("select * where tags.a = '\x00'", 26, "control characters"),
        ("select * where tags.a = '\ud800'", 26, "surrogates"),
    ],
)
def test_what_cannot_be_read_is_told_where_and_what_was_expected(text: str, column: int, said: str) -> None:
    error = refused(text)
    assert said in error.reason
    assert error.column == column


def test_length_is_bounded() -> None:
    start = "select * where tags.a = '"
    longest = start + "x" * (LENGTH_MAX - len(start) - 1) + "'"
    parse(longest)
    error = refused(longest + " ")
    assert (error.column, str(LENGTH_MAX) in error.reason) == (LENGTH_MAX + 1, True)


@pytest.mark.parametrize(
    "where",
    [
        "NOT " * 1500 + "tags.a",
        "- " * 3000 + "tags.a = 1",
        "NOT (" * 1000 + "tags.a" + ")" * 1000,
        "tags.a" + " + 1" * 1500 + " = 1",
        "tags.a" + " % 1" * (DEPTH_MAX + 1),
        "(tags.b or tags.c and " * 300 + "tags.a" + ")" * 300,
        "((tags.a = 1) = " * (DEPTH_MAX + 1) + "1" + ")" * (DEPTH_MAX + 1),
    ],
)
def test_depth_is_bounded_without_a_crash(where: str) -> None:
    assert str(DEPTH_MAX) in refused(f"select * where {where}").reason


def test_parentheses_alone_are_no_depth() -> None:
    assert parse("select * where " + "(" * 4000 + "tags.a" + ")" * 4000) == parse("select * where tags.a")


def test_the_deepest_condition_has_a_query_that_can_be_run() -> None:
    level = "NOT (tags.a = 1 OR tags.b = 2 AND "
    depth = CONDITION_DEPTH_MAX - 1
    query = parse(targeted_query(level * depth + "tags.c = 3" + ")" * depth))
    row = {"capabilities": {"iotEdge": True}, "tags": {"a": 0, "b": 2, "c": 3}}
    assert compiled(query.where)(row) is (holds(query.where, row) is True)
    assert parse(printed_query(query)) == query


def test_the_widest_condition_is_read() -> None:
    where = parse("select * where " + " OR ".join(["tags.a=1"] * 600)).where
    assert isinstance(where, Or)
    assert len(where.terms) == 600


@settings(derandomize=True, deadline=None, max_examples=300)
@given(queries)
def test_a_printed_query_reads_as_the_same_query(query: Query) -> None:
    assert printed_query(parse(printed_query(query))) == printed_query(query)
    assert parse(printed_query(query)) == query


FRAGMENTS = [
    *("select ", " * ", " from devices", " where ", " group by ", "tags.a", " in [", "]", "[[", "]]", "'", '"', "\\"),
    *(" = ", " and ", " not ", "(", ")", "count(", "is_defined(", ",", "- ", "1e9", "0x", "9" * 20, "\\u", " as ", "$"),
]


@settings(derandomize=True, deadline=None, max_examples=400)
@given(st.text(max_size=40) | st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join))
@example("select * where tags.a = " + "9" * 5000)
@example("select * where tags.a = 0x" + "f" * 5000)
@example("select * where tags.a = '\\")
@example("select count(" * 500)
def test_any_text_is_a_query_or_an_error_that_points_into_it(text: str) -> None:
    error = error_of(text)
    if error is not None:
        assert 1 <= error.column <= len(text) + 1
        assert len(error.reason) < 200
        assert all(len(line) < 250 for line in str(error).splitlines())


@settings(derandomize=True, deadline=None, max_examples=300)
@given(queries, st.integers(0, 120), st.integers(0, 8), st.sampled_from(["", *FRAGMENTS, "\n", "\x00", "😀"]))
def test_a_query_with_a_typo_never_crashes(query: Query, position: int, cut: int, typo: str) -> None:
    text = printed_query(query)
    error = error_of(text[:position] + typo + text[position + cut :])
    assert error is None or error.reason
