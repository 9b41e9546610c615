"""Why a preview, or a write that needs one, fails.

PreviewError
├── PreviewTokenInvalid   the token is unknown, expired, or of another command or principal
├── PreviewDiffers        the result is no longer the previewed one
├── PreviewRequired       more devices would change than are allowed without a preview
├── PreviewBehind         the projections are behind the log, or blocked
│   └── PreviewOvertaken  another write changed the same subjects meanwhile
└── ListMissing           a preview has no list of that name
"""

from collections.abc import Sequence

from events.number_text import counted

_SHOWN = 8


class PreviewError(Exception):
    """A preview, or a write that needs one, fails. Nothing is written, unless the message says what is."""

    def add(self, sentence: str) -> None:
        """Append a sentence to the message; a caller that passes the error on knows more."""
        self.args = (f"{self}; {sentence}",)


class PreviewTokenInvalid(PreviewError):
    """The token is not valid for this write; `why` is the reason."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the preview token {why}; preview again")
        self.why = why


class PreviewDiffers(PreviewError):
    """The result is no longer the previewed one. `differences` are sentences; the message has the first ones.

    `written` is how many events were written before that was detected, which can happen with several commands.
    """

    def __init__(self, differences: Sequence[str], *, written: int = 0) -> None:
        first = "; ".join(differences[:_SHOWN])
        more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        done = f"only {counted(written, 'event')} written" if written else "nothing is written"
        super().__init__(f"{done}, the result differs from the preview: {first}{more}")
        self.differences, self.written = tuple(differences), written


class PreviewRequired(PreviewError):
    """More devices would change than are allowed without a preview."""

    def __init__(self, devices: int, limit: int) -> None:
        super().__init__(
            f"{devices} devices would change, and more than {limit} require a preview: send the same request with"
            " ?preview=true (twinfold … --preview), then send its token as Twinfold-Preview (--preview-token)"
        )
        self.devices, self.limit = devices, limit


class PreviewBehind(PreviewError):
    """The projections do not have every event that the commands were decided on; `what` is the reason."""

    def __init__(self, what: str) -> None:
        super().__init__(f"no preview is possible now: {what}; try again")
        self.what = what


class PreviewOvertaken(PreviewBehind):
    """The projections have newer events than the commands were decided on, and the decision does not follow from them."""

    def __init__(self) -> None:
        super().__init__("another write changed the same subjects")


class ListMissing(PreviewError):
    """A preview has no list of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the preview has no list {name[:140]!r}")
        self.name = name
