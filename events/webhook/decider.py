"""The decisions on webhook commands: a command becomes an event, or is refused."""

import re
from collections.abc import Collection, Iterator
from functools import partial
from typing import assert_never, get_args
from urllib.parse import urlsplit

from events.decider import CommandAuthor, Decider, Documents, SubjectChange
from events.webhook.commands import DefineWebhook, DeleteWebhook, PauseWebhook, ResumeWebhook, WebhookCommand
from events.webhook.errors import WebhookInvalid, WebhookNotFound
from events.webhook.events import WebhookDefined, WebhookDeleted, WebhookEvent, WebhookPaused, WebhookResumed
from events.webhook.state import WEBHOOK, WebhookDocument, decode, evolve
from events.webhook.targets import address_of

URL_CHARACTERS_MAX = 2048
NAMES_MAX = 100
_WHY_CHARACTERS_MAX = 200
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_URL = re.compile(r"[!-~]+")
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*\.?")
_NUMERIC = re.compile(r"(.*\.)?(0[xX][0-9a-fA-F]*|[0-9]+)\.?")


def check(command: WebhookCommand, *, kinds: Collection[str]) -> None:
    """Refuse a command that no state allows; `kinds` are all kinds of notifications.

    Raises:
        WebhookInvalid: names the element and the rule.
    """
    webhook_id = command.webhook_id
    if not _ID.fullmatch(webhook_id):
        raise WebhookInvalid(
            webhook_id, "id", "has 1 to 64 lower-case letters, digits and . _ -, and starts with a letter or digit"
        )
    match command:
        case DefineWebhook():
            if problem := _problem_of_url(command.url):
                raise WebhookInvalid(webhook_id, "url", problem)
            _check_names(command, kinds)
        case PauseWebhook(why=why):
            if not 0 < len(why) <= _WHY_CHARACTERS_MAX or not why.isprintable():
                raise WebhookInvalid(webhook_id, "why", f"has 1 to {_WHY_CHARACTERS_MAX} printable characters")
        case ResumeWebhook() | DeleteWebhook():
            pass
        case _:
            assert_never(command)


def _problem_of_url(url: str) -> str:
    """The rule that a URL breaks; empty if it is valid."""
    if len(url) > URL_CHARACTERS_MAX or not _URL.fullmatch(url) or "\\" in url:
        return f"has 1 to {URL_CHARACTERS_MAX} ASCII characters, without spaces and backslashes"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "has a host or a port that cannot be read"
    if parts.scheme not in {"https", "http"}:
        return "begins with https://, or with http:// if TWINFOLD_WEBHOOK_PRIVATE_TARGETS allows the target"
    if "@" in parts.netloc:
        return "holds no user and no password: the signature proves the sender"
    if "#" in url:
        return "has no fragment"
    if port == 0:
        return "has a port from 1 to 65535"
    # Resolvers read a numeric host such as 0x7f000001 as an address, which the rules for addresses would not see.
    is_name = _HOST.fullmatch(host) is not None and not _NUMERIC.fullmatch(host)
    if not is_name and address_of(host) is None:
        return "has a host name in ASCII, or an address in its usual notation"
    return ""


def _check_names(command: DefineWebhook, kinds: Collection[str]) -> None:
    webhook_id = command.webhook_id
    elements = {"kinds": command.kinds, "deployments": command.deployments, "devices": command.devices}
    for element, names in elements.items():
        if len(names) > NAMES_MAX or not all(names):
            raise WebhookInvalid(webhook_id, element, f"has at most {NAMES_MAX} names, and no empty name")
    unknown = sorted(set(command.kinds) - set(kinds))
    if unknown:
        raise WebhookInvalid(
            webhook_id, "kinds", f"has the unknown kind {unknown[0][:80]!r}; allowed are {', '.join(sorted(kinds))}"
        )
    if any(position < 0 for position in command.after.values()):
        raise WebhookInvalid(webhook_id, "after", "has positions of 0 or more")


def subject_of(command: WebhookCommand) -> str:
    """Returns the subject of a command's event."""
    return WEBHOOK + command.webhook_id


def decide(command: WebhookCommand, document: WebhookDocument | None) -> WebhookEvent | None:
    """Returns the event of a checked command, `None` for no change.

    Raises:
        WebhookError: the state forbids it.
    """
    if isinstance(command, DefineWebhook):
        return _defined(command, document)
    if document is None:
        raise WebhookNotFound(command.webhook_id)
    match command:
        case PauseWebhook(why=why):
            return None if why == document.paused else WebhookPaused(why)
        case ResumeWebhook():
            return WebhookResumed()
        case DeleteWebhook():
            return WebhookDeleted()
        case _:
            assert_never(command)


def _defined(command: DefineWebhook, document: WebhookDocument | None) -> WebhookDefined | None:
    secret = command.secret
    if secret is None:
        if document is None:
            raise WebhookInvalid(command.webhook_id, "secret", "is missing: a new webhook requires one")
        secret = document.secret
    # An existing webhook continues from its progress.
    after = command.after if document is None else document.after
    event = WebhookDefined(
        command.url, secret, command.query, command.kinds, command.deployments, command.devices, after
    )
    # For a paused webhook, an unchanged definition is an event too: it resumes the webhook.
    if document is None or document.paused:
        return event
    is_unchanged = all(getattr(document, member) == getattr(event, member) for member in event.__struct_fields__)
    return None if is_unchanged else event


def _decide(command: WebhookCommand, documents: Documents, _: CommandAuthor) -> Iterator[SubjectChange]:
    subject = subject_of(command)
    event = decide(command, documents[subject])
    if event is not None:
        yield SubjectChange(subject, event)


def decider(kinds: Collection[str]) -> Decider:
    """Returns the decider of webhooks, whose filters may name these `kinds`."""
    return Decider(
        get_args(WebhookCommand),
        get_args(WebhookEvent),
        subjects=lambda command: (subject_of(command),),
        check=partial(check, kinds=kinds),
        decide=_decide,
        evolve=lambda document, event, version, at, _: evolve(document, event, version=version, at=at),
        decode=lambda _, data: decode(data),
        prefixes=(WEBHOOK,),
    )
