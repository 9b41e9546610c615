"""Personal tags leave commands as secrets do, before anything is written."""

from typing import Any

import pytest

from events import CreateDeployment, PatchTags, ReplaceTwin, UpdateDeployment
from events.access.commands import IssueToken
from events.deployment.errors import MetricsInvalid
from events.device.tags import personal_paths
from events.query.errors import ConditionInvalid, QueryInvalid
from events.rollout.commands import CreateRollout
from events.rollout.plan import Phase, RolloutPlan
from events.secrets.errors import SecretTextInvalid
from events.secrets.personal import Personal
from events.update.commands import DefineGroup

PERSONAL = Personal(personal_paths("owner, contact.mail"))


def taken(tags: dict[str, Any]) -> tuple[Any, dict[str, str]]:
    numbers = iter(range(99))
    command, found = PERSONAL.take(PatchTags("d", tags), new_id=lambda: f"s{next(numbers)}")
    return command.tags, {secret.id: secret.plaintext for secret in found}


def test_a_value_is_taken_with_all_that_is_below_it_and_others_stay() -> None:
    tags, values = taken({"owner": "Ada", "site": "north", "contact": {"mail": "a@b.c", "room": 7}})
    assert tags == {"owner": {"$secret": "s0"}, "site": "north", "contact": {"mail": {"$secret": "s1"}, "room": 7}}
    assert values == {"s0": "Ada", "s1": "a@b.c"}
    assert taken({"owner": {"name": "Ada", "born": None}})[0] == {"owner": {"name": {"$secret": "s0"}, "born": None}}
    assert taken({"owner": None, "contact": None, "x": 1}) == ({"owner": None, "contact": None, "x": 1}, {})


def test_a_whole_twin_is_looked_at_as_well() -> None:
    command, found = PERSONAL.take(ReplaceTwin("d", tags={"owner": "Ada"}), new_id=lambda: "s")
    assert (command.tags, len(found)) == ({"owner": {"$secret": "s"}}, 1)


@pytest.mark.parametrize("value", [7, True, ["a"], "", " ", "***", "x" * 4097, "\ud800"])
def test_what_is_no_text_or_stands_for_one_is_refused_by_its_path_and_not_quoted(value: Any) -> None:
    with pytest.raises(SecretTextInvalid, match=r"^tags\.contact\.mail: ") as refused:
        taken({"contact": {"mail": value}})
    assert "xxx" not in str(refused.value)


@pytest.mark.parametrize("path", ["owner", "owner.name", "contact", "contact.mail"])
@pytest.mark.parametrize("how", ["create", "update", "group", "token", "phase"])
def test_nobody_is_targeted_by_a_personal_tag(path: str, how: str) -> None:
    text = f"tags.site = 'north' AND tags.{path} = 'Ada'"
    commands = {
        "create": CreateDeployment("a", {}, text),
        "update": UpdateDeployment("a", target_condition=text),
        "group": DefineGroup("g", text),
        "token": IssueToken("t", "n", "read", "0", scope=text),
        "phase": CreateRollout("a", RolloutPlan((Phase(condition=text),))),
    }
    with pytest.raises(ConditionInvalid, match=rf"tags\.{path} is personal"):
        PERSONAL.check(commands[how])
    PERSONAL.check(CreateDeployment("a", {}, "tags.ownership = 1 AND tags.contact.room = 7"))


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM devices WHERE tags.owner = 'Ada'",
        "SELECT deviceId FROM devices WHERE tags.site = 'north' AND NOT is_defined(tags.contact.mail)",
        "SELECT * FROM devices.modules WHERE tags.owner.name IN ['Ada', '***']",
        "SELECT tags.owner, COUNT() AS n FROM devices GROUP BY tags.owner",
        "SELECT MIN(tags.contact.mail) AS first FROM devices",
    ],
)
def test_nobody_is_found_or_counted_by_a_personal_tag(query: str) -> None:
    with pytest.raises(QueryInvalid, match=r"tags\.\S+ is personal"):
        PERSONAL.check_query(query)
    for command in (CreateDeployment("a", {}, metrics={"m": query}), UpdateDeployment("a", metrics={"m": query})):
        with pytest.raises(MetricsInvalid, match="is personal"):
            PERSONAL.check(command)
    Personal().check_query(query)


def test_a_personal_tag_can_be_selected_and_others_asked_for() -> None:
    PERSONAL.check_query("SELECT deviceId, tags.owner FROM devices WHERE tags.contact.room = 7")
    PERSONAL.check(CreateDeployment("a", {}, metrics={"m": "SELECT deviceId FROM devices WHERE tags.site = 'north'"}))


def test_a_condition_for_modules_is_read_as_one() -> None:
    PERSONAL.check(CreateDeployment("a", {}, "FROM devices.modules WHERE moduleId = 'm' AND tags.site = 'north'"))
    with pytest.raises(ConditionInvalid, match=r"tags\.owner is personal"):
        PERSONAL.check(CreateDeployment("a", {}, "FROM devices.modules WHERE moduleId = 'm' AND tags.owner = 'Ada'"))


@pytest.mark.parametrize("text", ["$x", "a..b", "a b", ".a"])
def test_a_setting_that_names_no_tag_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="personal tag"):
        personal_paths(text)
