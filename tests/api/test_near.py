"""Names that are spelled alike, found without comparing all there are."""

import pytest

from services.api.http.similar_names import candidates, near

NAMES = [f"factory-north-line-{number % 40:02d}-Gateway-{number:06d}" for number in range(20_000)]
MEANT = "factory-north-line-03-Gateway-000123"


@pytest.mark.parametrize(
    "wanted",
    [
        MEANT.lower(),
        MEANT[1:],
        MEANT.replace("Gateway", "Gatewy"),
        MEANT.replace("factory-n", "factroy-n"),
        MEANT + "x",
    ],
)
def test_a_name_that_was_mistyped_is_found_among_many_of_which_few_are_compared(wanted: str) -> None:
    assert MEANT in near(wanted, NAMES)
    assert len(candidates(wanted, NAMES)) <= 200


def test_what_is_like_nothing_finds_nothing() -> None:
    assert near("pump", NAMES) == near("pump", []) == []
