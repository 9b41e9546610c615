from typing import Any

import pytest

from events.query.errors import ConditionInvalid
from events.query.module_condition import EVERY_MODULE, parse_module_condition
from events.query.parse import parse
from events.query.system_metric import module_applied_query, module_targeted_query
from events.query.tree import MATCH_ALL, MATCH_NONE, And, IsDefined, Not, Op, Or, compare_property

TAGGED = compare_property(("tags", "a"), Op.EQ, "x")
R, S = ("properties", "reported", "r"), ("properties", "reported", "s", "deep")


@pytest.mark.parametrize(
    ("where", "condition"),
    [
        ("moduleId = 'm'", MATCH_ALL),
        ("'m' = moduleId and properties.reported.r = 1", compare_property(R, Op.EQ, 1)),
        ("properties.reported.r and moduleId = 'm'", compare_property(R, Op.EQ, literal=True)),
        ("moduleId = 'm' and 2 > properties.reported.r", compare_property(R, Op.LT, 2)),
        (
            "moduleId = 'm' and deviceId <> 'd' and not is_defined(properties.reported.s.deep)",
            And((compare_property(("deviceId",), Op.NE, "d"), Not(IsDefined(S)))),
        ),
        (
            "moduleId = 'm' and properties.reported.r nin ['x', 2]",
            Not(Or((compare_property(R, Op.EQ, "x"), compare_property(R, Op.EQ, 2)))),
        ),
        ("moduleId = 'm' and properties.reported.r in ['x']", compare_property(R, Op.EQ, "x")),
        ("moduleId in ['m'] and tags.a = 'x'", TAGGED),
        ("moduleId = 'm' and (moduleId != 'n' or tags.b = 1) and tags.a = 'x'", TAGGED),
        ("(moduleId = 'm' and tags.a = 'x') or (moduleId = 'm' and moduleId = 'n')", TAGGED),
    ],
)
def test_what_fixes_the_module_is_a_condition_over_the_twin_of_that_one(where: str, condition: Any) -> None:
    for beginning in ("FROM devices.modules WHERE ", "  from\tDevices.Modules  where "):
        found = parse_module_condition(beginning + where)
        assert (found.module_id, found.condition) == ("m", condition)
    parse(module_targeted_query(beginning + where))
    parse(module_applied_query(beginning + where, "one"))


@pytest.mark.parametrize(
    ("where", "of_m", "of_n"),
    [
        ("tags.a = 'x'", TAGGED, TAGGED),
        ("moduleId = 'm' or moduleId = 'n'", MATCH_ALL, MATCH_ALL),
        ("moduleId != 'm'", MATCH_NONE, MATCH_ALL),
        ("'n' > moduleId", MATCH_ALL, MATCH_NONE),
        ("moduleId in ['m', '$edgeAgent'] and tags.a = 'x'", TAGGED, MATCH_NONE),
        ("moduleId nin ['m', 'o'] or tags.a = 'x'", TAGGED, MATCH_ALL),
        ("not (moduleId = 'm' and tags.a = 'x')", Not(TAGGED), MATCH_ALL),
        ("not (moduleId = 'm' or tags.a = 'x')", MATCH_NONE, Not(TAGGED)),
        ("is_defined(moduleId) and deviceId != ''", *[compare_property(("deviceId",), Op.NE, "")] * 2),
        ("(moduleId < 'n' or tags.a = 'x') and is_defined(tags.a)", IsDefined(("tags", "a")), None),
    ],
)
def test_what_may_be_about_any_module_comes_to_a_condition_over_the_twin_of_each(
    where: str, of_m: Any, of_n: Any
) -> None:
    text = f"FROM devices.modules WHERE {where}"
    found = parse_module_condition(text)
    assert (found.module_id, found.of("m")) == (EVERY_MODULE, of_m)
    assert found.of("n") == (of_n or And((TAGGED, IsDefined(("tags", "a")))))
    assert module_applied_query(text, "one") == (
        "select deviceId from devices.modules where configurations.[[one]].status = 'Applied'"
    )


@pytest.mark.parametrize(
    "text",
    [
        *("", "*", "tags.a = 'x'", "FROM devices WHERE moduleId = 'm'", "FROM devices.modules", "moduleId = 'm'"),
        *(
            f"FROM devices.modules WHERE {where}"
            for where in [
                *("", "*", "moduleId = 'm' and moduleId = 'n'", "moduleId = '$edgeAgent'", "moduleId = '$edgeHub'"),
                *("moduleId in ['$edgeAgent', '$edgeHub']", "moduleId = '$edgeHub' or moduleId = '$edgeAgent'"),
                *("moduleId = 1", "moduleId = 'a/b'", "moduleId", "moduleId in ['m', 1]", "moduleId != true"),
                *(
                    f"moduleId = 'm' and {rest}"
                    for rest in [
                        *(
                            "tags = 'x'",
                            "tags.$a = 'x'",
                            "properties.desired.a = 1",
                            "configurations.a.status = 'Applied'",
                        ),
                        *(
                            "properties.reported.$version = 1",
                            "properties.reported = 1",
                            "properties.reported.r < true",
                        ),
                        *("properties.reported.r = null", "properties.reported.r = properties.reported.s", "= 1"),
                        *(
                            "properties.reported.r in ['x', null]",
                            "properties.reported.r + 1 = 2",
                            "true",
                            "version = 1",
                        ),
                    ]
                ),
                "moduleId = 'm' group by deviceId",
                "moduleId = 'm' and " + "not " * 101 + "properties.reported.r",
            ]
        ),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ConditionInvalid):
        parse_module_condition(text)


def test_a_refusal_says_what_is_supported() -> None:
    with pytest.raises(ConditionInvalid, match=r"status = 'x' is not supported.*tags and properties.reported of the"):
        parse_module_condition("FROM devices.modules WHERE moduleId = 'm' AND status = 'x'")
    with pytest.raises(ConditionInvalid, match=r"'\$edgeAgent' is not a module id for a configuration"):
        parse_module_condition("FROM devices.modules WHERE moduleId = '$edgeAgent' AND tags.a = 'x'")


def test_its_queries_are_its_own_text_and_one_for_where_it_is_applied() -> None:
    text = " from devices.modules where moduleId = 'm\\'s' "
    assert module_targeted_query(text) == "select deviceId from devices.modules where moduleId = 'm\\'s'"
    assert module_applied_query(text, "one") == (
        "select deviceId from devices.modules where moduleId = 'm\\'s' and configurations.[[one]].status = 'Applied'"
    )
    assert module_targeted_query("") == ""
    parse(module_applied_query("", "one"))
