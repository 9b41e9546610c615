"""The ids of events: they say how far one has come in all streams, and nobody else's are taken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.notification.positions import PositionsInvalid, by_name, decode, encode, lag, moved, names_of, of_names

HEADS = (9, 400, 70_000, 2**40, 0)
within = st.tuples(*(st.integers(0, head) for head in HEADS))


@given(within)
def test_an_id_says_again_what_it_was_made_of(positions: tuple[int, ...]) -> None:
    text = encode(positions, epoch="e")
    assert text.isascii()
    assert "\n" not in text
    assert decode(text, epoch="e", heads=HEADS) == positions
    assert of_names(by_name(positions, 2), 2) == positions


def test_an_id_is_short() -> None:
    assert len(encode((100,) * 33, epoch="e")) == 50


@given(within, st.text(max_size=60))
def test_any_other_text_is_refused(positions: tuple[int, ...], text: str) -> None:
    for wrong in (text, encode(positions, epoch="e")[:-1], encode(positions, epoch="e") + text + "A"):
        with pytest.raises(PositionsInvalid, match="start without an id"):
            decode(wrong, epoch="e", heads=HEADS)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (encode(HEADS, epoch="other"), "of another log"),
        (encode(HEADS[:3], epoch="e"), "cannot be read"),
        (encode((10, 0, 0, 0, 0), epoch="e"), "ahead"),
        (encode((0,) * 40_000, epoch="e"), "cannot be read"),
    ],
)
def test_an_id_of_another_log_or_ahead_of_it_is_refused(text: str, why: str) -> None:
    with pytest.raises(PositionsInvalid, match=why):
        decode(text, epoch="e", heads=HEADS)


def test_streams_have_names_and_a_lag() -> None:
    assert names_of(2) == ("fleet", "p00", "p01", "p00/assignments", "p01/assignments")
    assert of_names({"p01": 3, "gone": 5}, 2) == (0, 0, 3, 0, 0)
    assert moved((1, 2, 3), 1, 7) == (1, 7, 3)
    assert lag((1, 2), (4, 1)) == 3
