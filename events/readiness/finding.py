"""What a rule found, and where."""

import msgspec

from events.canonical import digest
from events.manifest.problem import Severity
from events.readiness.pointer import Operation

_FINGERPRINT_DIGITS = 16


class ElementLocation(msgspec.Struct, frozen=True):
    """An element of a document, or the nearest thing above where it would be.

    `whole` says that the element itself is there, `open` that it is an object, which can be given members. `document` is
    a number in the subject's documents.
    """

    document: int
    pointer: str
    whole: bool
    open: bool = False


class Hit(msgspec.Struct, frozen=True):
    """What a rule answers: the element it stopped at, and what it saw there.

    `module` is whom it is about (`$edgeAgent` and `$edgeHub` for the system's modules, empty for all of it), `twin` and
    `path` where it stands once sections are merged. `detail` tells hits of one rule at one place apart, and outlives
    changes of the message. `fix` changes the document the place is in.
    """

    module: str
    message: str
    location: ElementLocation
    twin: str = ""
    path: tuple[str, ...] = ()
    detail: str = ""
    fix: tuple[Operation, ...] = ()


class Finding(msgspec.Struct, frozen=True):
    """A hit of a rule, as reports show it; it holds neither values of environment variables nor passwords.

    `pointer` leads to the element in the document (RFC 6901). `fingerprint` stays the same while the rule finds the
    same thing at the same element, wherever that stands in the file.
    """

    rule: str
    severity: Severity
    module: str
    document: str
    pointer: str
    message: str
    fingerprint: str
    fixable: bool = False


def finding(hit: Hit, *, rule: str, severity: Severity, document: str) -> Finding:
    """A hit as a finding of a rule in a document."""
    identity = digest([_printable(part) for part in (rule, document, hit.module, hit.twin, *hit.path, hit.detail)])
    return Finding(
        rule=rule,
        severity=severity,
        module=_printable(hit.module),
        document=_printable(document),
        pointer=hit.location.pointer.encode("utf-8", "backslashreplace").decode(),
        message=_printable(hit.message),
        fingerprint=identity[:_FINGERPRINT_DIGITS],
        fixable=bool(hit.fix),
    )


def _printable(text: str) -> str:
    # A name in JSON can hold line breaks, a terminal's commands, and half a surrogate pair.
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
