"""Joined conditions, monotone conditions, and the limits of parsing."""

import pytest

from events.query.condition import DEPTH_MAX, parse_condition
from events.query.errors import excerpt
from events.query.text import printed
from events.query.tree import MATCH_ALL, MATCH_NONE, Expression, both, equalities, is_monotone
from tests.query.test_condition import error_of, refused

NORTH, PROD = parse_condition("tags.site = 'north'"), parse_condition("tags.env = 'prod'")


@pytest.mark.parametrize(
    ("one", "other", "joined"),
    [
        (MATCH_ALL, NORTH, NORTH),
        (NORTH, MATCH_ALL, NORTH),
        (MATCH_NONE, NORTH, MATCH_NONE),
        (NORTH, MATCH_NONE, MATCH_NONE),
        (MATCH_ALL, MATCH_NONE, MATCH_NONE),
        (MATCH_NONE, MATCH_ALL, MATCH_NONE),
        (MATCH_ALL, MATCH_ALL, MATCH_ALL),
        (NORTH, PROD, parse_condition("tags.site = 'north' AND tags.env = 'prod'")),
    ],
    ids=lambda condition: printed(condition) or "nobody",
)
def test_two_conditions_are_joined_and_neither_star_nor_nothing_stands_inside(
    one: Expression, other: Expression, joined: Expression
) -> None:
    assert both(one, other) == joined


@pytest.mark.parametrize(
    ("text", "is_so"),
    [
        ("tags.a = 1", True),
        ("tags.a <> 1", False),
        ("tags.a < 1", False),
        ("tags.a = 1 AND (tags.b = 2 OR tags.c = 3)", True),
        ("tags.a = 1 AND tags.b > 2", False),
        ("NOT tags.a = 1", False),
        ("is_defined(tags.a)", False),
        ("*", True),
        ("", True),
    ],
)
def test_equalities_joined_by_and_and_or_are_monotone(text: str, *, is_so: bool) -> None:
    assert is_monotone(parse_condition(text)) is is_so


def test_the_pairs_that_are_compared_for_equality_are_told() -> None:
    condition = parse_condition("tags.a = 1 AND tags.b <> 2 AND is_defined(tags.c) AND NOT tags.d = 'x'")
    assert equalities(condition) == ((("tags", "a"), 1), (("tags", "d"), "x"))


@pytest.mark.parametrize("character", ["\t", "\n", "\r", " ", "\ud7ff", "\ue000", "\U0010ffff"])
def test_characters_next_to_those_that_are_no_text_are_read(character: str) -> None:
    assert error_of(f"tags.a = '{character}'") is None


@pytest.mark.parametrize("character", ["\0", "\x1f", "\udfff"])
def test_the_first_and_the_last_character_that_is_no_text_is_refused(character: str) -> None:
    assert refused(f"tags.a = '{character}'").column == 11


def test_each_not_that_stands_around_a_term_counts_as_depth_and_those_beside_each_other_do_not() -> None:
    beside = " AND ".join(["NOT tags.a = 1"] * (DEPTH_MAX + 1))
    assert error_of(beside) is None
    half = DEPTH_MAX // 2
    nested = "NOT (" * half + "tags.a = 1" + ")" * half
    assert error_of(nested) is None
    assert error_of(f"NOT ({nested})") is not None


@pytest.mark.parametrize(("word", "joined"), [("IN", "OR"), ("NIN", "AND")])
def test_a_list_of_values_is_to_be_written_with_the_word_that_means_the_same(word: str, joined: str) -> None:
    error = refused(f"tags.a {word} ['x', 'y']")
    assert f"joined with {joined}" in error.reason
    assert f" {joined} " in (error.corrected or "")


@pytest.mark.parametrize(("column", "shown"), [(1, "abc…"), (3, "abcde…"), (4, "abcdef"), (5, "…bcdef"), (7, "…def")])
def test_an_excerpt_says_on_which_sides_there_is_more(column: int, shown: str) -> None:
    text, caret = excerpt("abcdef", column, 3)
    assert text == shown
    assert text[caret : caret + 1] == "abcdef"[column - 1 : column]
