"""Hits and findings: what a rule found, and where."""

import msgspec

from events.canonical import digest
from events.manifest.problem import Severity
from events.readiness.pointer import Operation


class ElementLocation(msgspec.Struct, frozen=True):
    """The location of an element in a document, or of its deepest existing parent.

    `whole` is true if the element itself exists, and `open` if it is an object, to which a patch can add members.
    `document` is an index in the subject's documents.
    """

    document: int
    pointer: str
    whole: bool
    open: bool = False


class Hit(msgspec.Struct, frozen=True):
    """What a rule found at an element.

    `module` is the module that the hit is about: `$edgeAgent` and `$edgeHub` for the system modules, empty for the whole
    document. `twin` and `path` locate the element in the merged sections. `detail` distinguishes several hits of a rule
    at one element, and does not depend on the message. `fix` is a patch of the element's document.
    """

    module: str
    message: str
    location: ElementLocation
    twin: str = ""
    path: tuple[str, ...] = ()
    detail: str = ""
    fix: tuple[Operation, ...] = ()


class Finding(msgspec.Struct, frozen=True):
    """A hit as reports show it; it contains neither passwords nor values of environment variables.

    `pointer` is the element's location in the document (RFC 6901). `fingerprint` identifies the rule and the element,
    so it survives moved lines and other numbers in the message.
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
    """Return the finding for a hit of a rule in a document."""
    # No line, message or pointer is part of it, so that a baseline survives edits of the file.
    identity = digest([printable(part) for part in (rule, document, hit.module, hit.twin, *hit.path, hit.detail)])
    return Finding(
        rule=rule,
        severity=severity,
        module=printable(hit.module),
        document=printable(document),
        pointer=hit.location.pointer.encode("utf-8", "backslashreplace").decode(),
        message=printable(hit.message),
        # 64 bits: short in a baseline file, and long enough to tell all findings of a repository apart.
        fingerprint=identity[:16],
        fixable=bool(hit.fix),
    )


def printable(text: str) -> str:
    """Return a text with its unprintable characters as escapes."""
    # Nearly all texts are printable, and a commit checks each new configuration: a loop over letters took most of the time.
    if text.isprintable():
        return text
    # A name in JSON can contain line breaks, commands of a terminal, and half a surrogate pair.
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
