"""The page about readiness says what the rules say."""

import json
import re
from pathlib import Path

import pytest

from events.readiness.catalogue import RULES
from events.readiness.document import with_rules
from events.readiness.host_facts import SECTION, HostFacts, read_host_facts
from events.readiness.rule import Rule
from tests.repo.tree import text

PAGE = Path("docs/reference/readiness.md")


def test_the_page_is_up_to_date() -> None:
    assert text(PAGE) == with_rules(text(PAGE)), "python -m events.readiness.document docs/reference/readiness.md"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_is_in_it_once(rule: Rule) -> None:
    assert text(PAGE).count(f"\n### {rule.id}\n") == 1


def test_host_facts_can_be_reported_as_it_shows() -> None:
    (shown,) = re.findall(r"```json\n(.*?)```", text(PAGE), re.DOTALL)
    facts = read_host_facts(json.loads(shown)[SECTION])
    assert isinstance(facts, HostFacts)
    assert None not in (getattr(facts, name) for name in HostFacts.__struct_fields__)
