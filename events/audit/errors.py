"""Why history cannot be audited.

AuditError
├── SealUnreadable        stop: these bytes are not a seal
├── PublicKeyUnusable     usage: a file is not a public key
├── NothingSealed         cannot be done: there is no seal to verify by
├── SealsMoved            not now: another process added a seal; read the newest seal again
├── SealsLost             not now: sealing had begun, and its seals are missing
├── SealExists            refused: another seal of this number is stored as a file
├── LocationInvalid       refused: no such position in the log
└── SearchInvalid         refused: a search has an invalid member
"""


class AuditError(Exception):
    """Base of all errors of the audit."""


class SealUnreadable(AuditError):
    """Bytes in the place of a seal are not a seal."""

    def __init__(self, why: str) -> None:
        super().__init__(f"not a readable seal: {why}")
        self.why = why


class PublicKeyUnusable(AuditError):
    """A file holds no public key that can verify seals."""

    def __init__(self, location: str, why: str) -> None:
        super().__init__(f"{location} {why}; `twinfold audit key` prints a usable one")
        self.location, self.why = location, why


class NothingSealed(AuditError):
    """There are no seals, neither in Redis nor in the archive."""

    def __init__(self) -> None:
        super().__init__(
            "nothing is sealed: there is no seal in Redis or in the archive; `twinfold scheduler` creates seals"
        )


class SealsMoved(AuditError):
    """Another process added a seal after the newest one was read."""

    def __init__(self, number: int) -> None:
        super().__init__(f"seal {number} exists already: another process created it")
        self.number = number


class SealsLost(AuditError):
    """Sealing had begun, and neither Redis nor the archive gives a seal. A new first seal would vouch for a log that may be changed."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"sealing had begun, Redis has no seal that can be read, and {why}; nothing is sealed until the archive gives"
            " the newest one (restore its folder `seals` from a backup if it is gone)"
        )
        self.why = why


class SealExists(AuditError):
    """The archive has another seal of this number; it is not overwritten."""

    def __init__(self, number: int) -> None:
        super().__init__(f"the archive has a different seal {number}; run `twinfold audit verify`")
        self.number = number


class LocationInvalid(AuditError):
    """A text is not a position in the log."""

    def __init__(self, text: str, why: str) -> None:
        super().__init__(f"{text[:80]!r} {why}")
        self.text, self.why = text, why


class SearchInvalid(AuditError):
    """A search has an invalid member; `element` names it."""

    def __init__(self, element: str, why: str) -> None:
        super().__init__(f"{element}: {why}")
        self.element, self.why = element, why
