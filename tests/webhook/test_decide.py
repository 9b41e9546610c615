"""Webhooks: what may happen to them, and what stands afterwards."""

from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from events import Producer
from events.canonical import encode
from events.envelope import Principal
from events.log.memory import MemoryLog
from events.log.port import KINDS, RESTRICTED_KINDS
from events.producer.producer import ProducerReport
from events.webhook.commands import DefineWebhook, DeleteWebhook, PauseWebhook, ResumeWebhook, WebhookCommand
from events.webhook.decider import check, decide, subject_of
from events.webhook.errors import WebhookInvalid, WebhookNotFound
from events.webhook.events import WebhookDefined, WebhookDeleted, WebhookEvent, WebhookPaused, WebhookResumed
from events.webhook.signature import headers, key_of, secret_of
from events.webhook.state import WebhookDocument, decode, evolve

URL = "https://hooks.example/twinfold"
SECRET: Any = {"$secret": "0"}
QUERY: Any = {"$secret": "1"}
DEFINED = WebhookDefined(URL, SECRET, after={"fleet": 3})


def define(**members: Any) -> DefineWebhook:
    return DefineWebhook(**{"webhook_id": "siem", "url": URL, "secret": SECRET, "after": {"fleet": 3}, **members})


def after(*events: WebhookEvent) -> WebhookDocument | None:
    document = None
    for number, event in enumerate(events, start=1):
        document = evolve(document, event, version=number, at=1000 * number)
    return document


def decided(command: WebhookCommand, *previous_events: WebhookEvent) -> WebhookEvent | None:
    check(command, kinds=KINDS)
    return decide(command, after(*previous_events))


def test_a_webhook_is_defined_changed_paused_resumed_and_deleted() -> None:
    assert decided(define()) == DEFINED
    changed = define(
        url=URL + "/2", kinds=("AssignmentChange",), deployments=("a",), devices=("d",), query=QUERY, after={}
    )
    event = decided(changed, DEFINED)
    assert event == WebhookDefined(URL + "/2", SECRET, QUERY, ("AssignmentChange",), ("a",), ("d",), {"fleet": 3})
    assert decided(PauseWebhook("siem", "moving"), DEFINED) == WebhookPaused("moving")
    assert decided(ResumeWebhook("siem"), DEFINED) == WebhookResumed()
    assert decided(DeleteWebhook("siem"), DEFINED) == WebhookDeleted()
    paused = after(DEFINED, WebhookPaused("moving"))
    assert paused is not None
    assert (paused.paused, paused.version, paused.changed_at) == ("moving", 2, 2000)
    for end in (WebhookResumed(), DEFINED):
        resumed = after(DEFINED, WebhookPaused("moving"), end)
        assert resumed is not None
        assert (resumed.paused, resumed.born) == ("", 1)
    assert after(DEFINED, WebhookDeleted()) is None


def test_one_that_is_defined_again_after_its_end_is_another() -> None:
    again = after(DEFINED, WebhookDeleted(), DEFINED)
    assert again is not None
    assert (again.born, again.version) == (3, 3)


def test_a_command_that_changes_nothing_is_no_event() -> None:
    assert decided(define(secret=None), DEFINED) is None
    assert decided(PauseWebhook("siem", "moves"), DEFINED, WebhookPaused("moves")) is None


def test_a_secret_that_is_not_given_is_the_one_that_stands_and_a_new_webhook_has_one() -> None:
    renamed = define(secret=None, deployments=("north",))
    assert decided(renamed, DEFINED) == WebhookDefined(URL, SECRET, after={"fleet": 3}, deployments=("north",))
    assert decided(define(secret=None), DEFINED, WebhookPaused("moves")) == DEFINED
    with pytest.raises(WebhookInvalid, match="`secret` is missing"):
        decided(define(secret=None))


@pytest.mark.parametrize("command", [PauseWebhook("siem", "why"), ResumeWebhook("siem"), DeleteWebhook("siem")])
def test_what_is_not_there_is_not_found(command: WebhookCommand) -> None:
    with pytest.raises(WebhookNotFound, match="'siem'"):
        decided(command)


@pytest.mark.parametrize(
    ("members", "element"),
    [
        ({"webhook_id": ""}, "id"),
        ({"webhook_id": "A"}, "id"),
        ({"webhook_id": "a/b"}, "id"),
        ({"webhook_id": "a:b"}, "id"),
        ({"webhook_id": "x" * 65}, "id"),
        ({"url": ""}, "url"),
        ({"url": "hooks.example"}, "url"),
        ({"url": "ftp://hooks.example/"}, "url"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"url": "https://"}, "url"),
        ({"url": "https:///path"}, "url"),
        ({"url": "https://user:hunter2@hooks.example/"}, "url"),
        ({"url": "https://hunter2@hooks.example/"}, "url"),
        ({"url": "https://hooks.example/#hunter2"}, "url"),
        ({"url": "https://hooks.example:0/"}, "url"),
        ({"url": "https://hooks.example:99999/"}, "url"),
        ({"url": "https://hooks.example:x/"}, "url"),
        ({"url": "https://[::1/"}, "url"),
        ({"url": "https://hooks.example/a b"}, "url"),
        ({"url": "https://hooks.example\\@127.0.0.1/"}, "url"),
        ({"url": "https://hooks.example/\r\nhost: x"}, "url"),
        ({"url": "https://höoks.example/"}, "url"),
        ({"url": "https://127.1/"}, "url"),
        ({"url": "https://2130706433/"}, "url"),
        ({"url": "https://0x7f000001/"}, "url"),
        ({"url": "https://0177.0.0.1/"}, "url"),
        ({"url": "https://hooks..example/"}, "url"),
        ({"url": "https://hooks.example/" + "x" * 2048}, "url"),
        ({"kinds": ("Nothing",)}, "kinds"),
        ({"kinds": ("",)}, "kinds"),
        ({"devices": ("",)}, "devices"),
        ({"deployments": ("x",) * 101}, "deployments"),
        ({"after": {"fleet": -1}}, "after"),
    ],
)
def test_bad_input_is_refused_by_element_and_rule_and_without_what_may_be_secret(
    members: dict[str, Any], element: str
) -> None:
    with pytest.raises(WebhookInvalid) as refused:
        check(define(**members), kinds=KINDS)
    assert refused.value.element == element
    assert f"`{element}` " in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("why", ["", "x" * 201, "a\nb"])
def test_a_reason_is_a_line(why: str) -> None:
    with pytest.raises(WebhookInvalid, match="why"):
        check(PauseWebhook("siem", why), kinds=KINDS)


@pytest.mark.parametrize("url", ["https://h.example", "http://10.0.0.1:8080/x", "https://[2606:2800::1]:1/", URL])
def test_usual_urls_are_fine(url: str) -> None:
    check(define(url=url), kinds=KINDS)


def submit(command: WebhookCommand, log: MemoryLog) -> ProducerReport:
    return Producer(log, by=Principal.parse("user:ada")).submit([command])


def test_what_is_refused_leaves_nothing_in_the_log_and_a_plain_secret_needs_a_vault() -> None:
    log = MemoryLog(partitions=2)
    plain = secret_of(b"k" * 32)
    commands = [
        define(url="https://u:p@h.example"),
        define(secret=plain),
        define(secret="short"),
        define(secret=5),
        define(url=URL + "?token=hunter2"),
        define(url=URL + "?token=hunter2#x"),
        define(url=URL + "?"),
        define(url=7),
        define(kinds=5),
        DeleteWebhook("siem"),
    ]
    heads = log.heads()
    for command in commands:
        (refused,) = submit(command, log).refused
        said = f"{refused.error} {command!r}"
        assert plain not in said
        assert "hunter2" not in said
    assert log.heads() == heads
    assert submit(define(), log).written == 1
    assert list(log.subjects(-1, prefix="webhook:")) == ["webhook:siem"]


@for_all(st.integers(0, 3), st.booleans(), st.sampled_from([None, QUERY]))
def test_a_document_reads_as_it_was_written(version: int, paused: bool, query: Any) -> None:  # noqa: FBT001
    events = (WebhookPaused("x"),) if paused else ()
    document = after(*[WebhookDefined(URL, SECRET, query)] * (version + 1), *events)
    assert document is not None
    assert decode(encode(document)) == document
    assert subject_of(define()) == "webhook:siem"


def test_kinds_are_those_of_the_events_there_are() -> None:
    assert {"DeploymentCreated", "TwinPatched", "AssignmentChange", "Unreadable", "WebhookDefined"} <= KINDS
    assert {"TokenIssued", "PolicyDefined", "WebhookDefined"} <= RESTRICTED_KINDS < KINDS


def test_a_signature_is_as_the_convention_has_it() -> None:
    # The example of the Standard Webhooks specification.
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    made = headers(
        secret, message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", at_seconds=1614265330, body=b'{"test": 2432232314}'
    )
    assert made["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert secret_of(key_of(secret)) == secret


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
def test_what_is_no_secret_makes_no_key(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        key_of(secret)
