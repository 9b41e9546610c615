"""Filters and orders of the update service's lists, and imports by what the request holds."""

import base64
import hashlib
from typing import Any

import msgspec
import pytest

from events.update.names import UpdateId
from services.api.device_update.lists import read_filter, read_order
from services.api.device_update.updates import HANDLER, command_of
from services.api.http.errors import BodyInvalid
from tests.workers.system import base

NAMES = ("groupId", "deploymentStatus")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, {}),
        ("", {}),
        ("groupId eq 'north'", {"groupId": "north"}),
        ("GroupId EQ 'it''s'", {"groupId": "it's"}),
        ("groupId eq 'and' AND deploymentStatus eq null", {"groupId": "and", "deploymentStatus": None}),
        (" deploymentStatus eq true ", {"deploymentStatus": True}),
    ],
)
def test_a_filter_is_equalities_that_are_all_to_hold(text: str | None, found: dict[str, Any]) -> None:
    assert read_filter(text, NAMES) == found


@pytest.mark.parametrize(
    "text",
    [
        "groupId ne 'a'",
        "groupId eq 'a' or groupId eq 'b'",
        "groupId eq 'a' and",
        "groupId eq 'a' and groupId eq 'b'",
        "groupId eq a",
        "other eq 'a'",
        "(groupId eq 'a')",
        "groupId eq 'a' 'b'",
    ],
)
def test_any_other_filter_is_refused_and_says_what_there_is(text: str) -> None:
    with pytest.raises(BodyInvalid, match="groupId eq"):
        read_filter(text, NAMES)


def test_a_list_is_ordered_by_what_it_can_be_ordered_by() -> None:
    names = {"startDate": "start"}
    assert read_order(None, names) is None
    assert read_order("startDate", names) == read_order("StartDate asc", names) == ("start", False)
    assert read_order("startDate DESC", names) == ("start", True)
    for wrong in ("other", "startDate up", "startDate desc asc"):
        with pytest.raises(BodyInvalid, match="startDate"):
            read_order(wrong, names)


def held(value: Any) -> dict[str, Any]:
    data = msgspec.json.encode(value)
    return {"url": "data:;base64," + base64.b64encode(data).decode()}


def entry(**manifest: Any) -> dict[str, Any]:
    said = {
        "updateId": {"provider": "contoso", "name": "camera", "version": "1.0"},
        "instructions": {"steps": [{"handler": HANDLER}]},
        "files": [{"filename": "any"}],
        **manifest,
    }
    return {"importManifest": held(said), "files": [held(base("m"))]}


def test_an_import_manifest_becomes_a_command() -> None:
    command = command_of([entry(compatibility=[{"model": "x"}], description="d") | {"friendlyName": "f"}])
    assert command.update == UpdateId("contoso", "camera", "1.0")
    assert (command.compatibility, command.description, command.friendly_name) == (({"model": "x"},), "d", "f")
    assert command.content == base("m")


def test_a_url_may_be_quoted_instead_of_in_base64_and_its_hash_is_held_against_it() -> None:
    text = msgspec.json.encode(base("m"))
    quoted = {"url": "data:application/json," + text.decode().replace("%", "%25")}
    assert command_of([entry() | {"files": [quoted]}]).content == base("m")
    right = base64.b64encode(hashlib.sha256(text).digest()).decode()
    files = [{"filename": "any", "sizeInBytes": len(text), "hashes": {"sha256": right}}]
    assert command_of([entry(files=files) | {"files": [quoted]}]).content == base("m")
    for wrong in ({"hashes": {"sha256": "x"}}, {"hashes": "x"}, {"sizeInBytes": 1}):
        with pytest.raises(BodyInvalid, match=r"files\[0\]"):
            command_of([entry(files=[{**files[0], **wrong}]) | {"files": [quoted]}])


@pytest.mark.parametrize(
    "url", ["https://example.com/a", "file:///etc/passwd", "data:", "data:;base64,%", "", "DATA:,{}", "//example.com"]
)
def test_no_url_is_followed(url: str) -> None:
    with pytest.raises(BodyInvalid):
        command_of([entry() | {"files": [{"url": url}]}])
    with pytest.raises(BodyInvalid):
        command_of([entry() | {"importManifest": {"url": url}}])
