"""Why history cannot be audited.

AuditError
├── SealUnreadable        stop: these bytes are no seal
├── PublicKeyUnusable     usage: a file is no public key
├── NothingSealed         cannot be done: there is no seal to verify by
├── SealsMoved            not now: somebody else has sealed meanwhile; look again
├── SealsLost             not now: sealing had begun, and its seals are not to be had
├── SealStands            refused: another seal of this number is kept as a file
├── LocationInvalid          refused: no such place in the log
└── SearchInvalid         refused: what is asked for cannot be
"""


class AuditError(Exception):
    """Any trouble with auditing."""


class SealUnreadable(AuditError):
    """Bytes that stand where a seal belongs are none."""

    def __init__(self, why: str) -> None:
        super().__init__(f"this is no seal: {why}")
        self.why = why


class PublicKeyUnusable(AuditError):
    """A file that was given holds no key that seals could be verified with."""

    def __init__(self, location: str, why: str) -> None:
        super().__init__(f"{location} {why}; `twinfold audit key` prints one that fits")
        self.location, self.why = location, why


class NothingSealed(AuditError):
    """There are no seals, neither in Redis nor outside."""

    def __init__(self) -> None:
        super().__init__("nothing is sealed: there is no seal in Redis or in the archive; `twinfold scheduler` seals")


class SealsMoved(AuditError):
    """A seal was added by somebody else since the last one was read."""

    def __init__(self, number: int) -> None:
        super().__init__(f"seal {number} stands already; another process seals")
        self.number = number


class SealsLost(AuditError):
    """Sealing had begun, Redis has no seal, and the archive gives none: to begin anew would seal whatever stands there now."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"sealing had begun, Redis has no seal that can be read, and {why}; nothing is sealed until the archive gives"
            " the newest one (restore its folder `seals` from a backup if it is gone)"
        )
        self.why = why


class SealStands(AuditError):
    """Another seal is kept under this number outside Redis; it stays as it is."""

    def __init__(self, number: int) -> None:
        super().__init__(f"seal {number} is kept in the archive and is another; `twinfold audit verify` tells more")
        self.number = number


class LocationInvalid(AuditError):
    """A text names no place in the log."""

    def __init__(self, text: str, why: str) -> None:
        super().__init__(f"{text[:80]!r} {why}")
        self.text, self.why = text, why


class SearchInvalid(AuditError):
    """A search that cannot be made; `element` names what is at fault."""

    def __init__(self, element: str, why: str) -> None:
        super().__init__(f"{element}: {why}")
        self.element, self.why = element, why
