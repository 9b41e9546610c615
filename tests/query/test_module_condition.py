from typing import Any

import pytest

from events.query.module_condition import module_applied_query, module_targeted_query, parse_module_condition
from events.query.parse import parse
from events.targeting.errors import ConditionInvalid
from events.targeting.tree import And, Comparison, Everyone, IsDefined, Not, Op, Or

R, S = ("properties", "reported", "r"), ("properties", "reported", "s", "deep")


@pytest.mark.parametrize(
    ("where", "condition"),
    [
        ("moduleId = 'm'", Everyone()),
        ("'m' = moduleId and properties.reported.r = 1", Comparison(R, Op.EQ, 1)),
        ("properties.reported.r and moduleId = 'm'", Comparison(R, Op.EQ, literal=True)),
        ("moduleId = 'm' and 2 > properties.reported.r", Comparison(R, Op.LT, 2)),
        (
            "moduleId = 'm' and deviceId <> 'd' and not is_defined(properties.reported.s.deep)",
            And((Comparison(("deviceId",), Op.NE, "d"), Not(IsDefined(S)))),
        ),
        (
            "moduleId = 'm' and properties.reported.r nin ['x', 2]",
            Not(Or((Comparison(R, Op.EQ, "x"), Comparison(R, Op.EQ, 2)))),
        ),
        ("moduleId = 'm' and properties.reported.r in ['x']", Comparison(R, Op.EQ, "x")),
    ],
)
def test_a_condition_for_modules_is_one_over_what_the_module_reports(where: str, condition: Any) -> None:
    for beginning in ("FROM devices.modules WHERE ", "  from\tDevices.Modules  where "):
        found = parse_module_condition(beginning + where)
        assert (found.module_id, found.condition) == ("m", condition)
    parse(module_targeted_query(beginning + where))
    parse(module_applied_query(beginning + where, "one"))


@pytest.mark.parametrize(
    "text",
    [
        *("", "*", "tags.a = 'x'", "FROM devices WHERE moduleId = 'm'", "FROM devices.modules", "moduleId = 'm'"),
        *(
            f"FROM devices.modules WHERE {where}"
            for where in [
                *("", "*", "deviceId = 'd'", "moduleId = 'm' or moduleId = 'n'", "moduleId = 'm' and moduleId = 'n'"),
                *("moduleId != 'm'", "moduleId = '$edgeAgent'", "moduleId = '$edgeHub'"),
                *("moduleId = 1", "moduleId = 'a/b'", "not moduleId = 'm'"),
                *(
                    f"moduleId = 'm' and {rest}"
                    for rest in [
                        *("tags.a = 'x'", "properties.desired.a = 1", "configurations.a.status = 'Applied'"),
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
    with pytest.raises(ConditionInvalid, match=r"tags.a = 'x' is not supported.*moduleId = '…'"):
        parse_module_condition("FROM devices.modules WHERE moduleId = 'm' AND tags.a = 'x'")


def test_its_queries_are_its_own_text_and_one_for_where_it_is_applied() -> None:
    text = " from devices.modules where moduleId = 'm\\'s' "
    assert module_targeted_query(text) == "select deviceId from devices.modules where moduleId = 'm\\'s'"
    assert module_applied_query(text, "one") == (
        "select deviceId from devices.modules where moduleId = 'm\\'s' and configurations.[[one]].status = 'Applied'"
    )
    assert module_targeted_query("") == ""
    parse(module_applied_query("", "one"))
