"""How `twinfold log` shows an event."""

import json

from events.device.events import DeviceRetired, TwinPatched
from events.envelope import Envelope, Principal, PrincipalKind
from events.log.keys import FLEET
from events.log.port import Event
from services.cli.log import DATA_CHARACTERS_MAX, as_json, as_text

ADA = Principal(PrincipalKind.USER, "ada")


def line(event: Event, *, stream: int = 3, cause: str = "") -> tuple[int, Envelope[Event]]:
    """A line about edge1."""
    return stream, Envelope(17, "edge1", 4, 1_700_000_000_123, ADA, cause, event)


def test_a_line_has_time_place_subject_type_data_and_author() -> None:
    shown = as_text(*line(TwinPatched(tags={"site": "north"})))
    assert shown == (
        '2023-11-14T22:13:20.123Z p03:17 edge1 TwinPatched {"desired":null,"tags":{"site":"north"}} by user:ada'
    )


def test_an_event_with_a_cause_says_so() -> None:
    assert as_text(*line(DeviceRetired(), stream=FLEET, cause="p03:9")).endswith(
        "fleet:17 edge1 DeviceRetired {} by user:ada because of p03:9"
    )


def test_long_data_is_cut_in_text_but_not_in_json() -> None:
    long = line(TwinPatched(tags={"note": "x" * 500}))
    _, _, data = as_text(*long).partition("TwinPatched ")
    assert data[DATA_CHARACTERS_MAX - 1 :] == "… by user:ada"
    assert json.loads(as_json(*long))["data"]["tags"] == {"note": "x" * 500}


def test_a_line_stays_one_line_whatever_the_data() -> None:
    assert "\n" not in as_text(*line(TwinPatched(tags={"note": "a\nb"})))


def test_json_has_the_names_of_the_entrys_fields() -> None:
    assert json.loads(as_json(*line(DeviceRetired(), cause="p03:9"))) == {
        "stream": "p03",
        "position": 17,
        "type": "DeviceRetired",
        "subject": "edge1",
        "version": 4,
        "at": 1_700_000_000_123,
        "by": "user:ada",
        "cause": "p03:9",
        "data": {},
    }
