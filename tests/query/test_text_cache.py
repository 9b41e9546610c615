"""What is parsed of texts is remembered by their length, so that it has an end in bytes."""

import pytest

from events.query.errors import QueryInvalid
from events.query.parse import parse
from events.text_cache import by_text


def test_the_newest_short_texts_are_remembered_and_few_of_the_long_ones() -> None:
    made: list[str] = []

    @by_text
    def length(text: str) -> int:
        made.append(text)
        return len(text)

    short = [f"s{number}" for number in range(1000)]
    long = [f"{number:08000}" for number in range(40)]
    endless = ["x" * 10_000] * 2
    for text in (*short, *short, *long, *long[-30:], *long[:1], *endless):
        assert length(text) == len(text)
    assert made == [*short, *long, *long[:1], *endless]


def test_a_text_that_is_refused_is_refused_each_time() -> None:
    for _ in range(2):
        with pytest.raises(QueryInvalid):
            parse("SELECT")
    assert parse("SELECT * FROM devices") is parse("SELECT * FROM devices")
