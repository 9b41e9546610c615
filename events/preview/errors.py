"""What can go wrong with a look ahead.

PreviewError
├── PreviewTokenInvalid   no token of ours, of another command or person, or too old
├── PreviewDiffers        the result is no longer the one that was shown
├── PreviewRequired       so many devices change that somebody is to look first
├── PreviewBehind         the projections are behind the log, or stopped
│   └── PreviewOvertaken  somebody else wrote on the same meanwhile
└── ListMissing           a preview has no list of that name
"""

from collections.abc import Sequence

_SHOWN = 8


class PreviewError(Exception):
    """Trouble with a look ahead; nothing is written, or it says what is."""

    def add(self, said: str) -> None:
        """Say more, as whoever passes the error on knows it."""
        self.args = (f"{self}; {said}",)


class PreviewTokenInvalid(PreviewError):
    """The token was not given for this: `why` says in which respect."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the preview's token {why}; preview again")
        self.why = why


class PreviewDiffers(PreviewError):
    """What would happen now is not what was shown. `differences` are sentences, the first ones in the message.

    `written` is how many events were written before that showed, which happens where there are several commands.
    """

    def __init__(self, differences: Sequence[str], *, written: int = 0) -> None:
        shown = "; ".join(differences[:_SHOWN])
        more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        done = (
            f"{written} {'event is' if written == 1 else 'events are'} written and no more"
            if written
            else "nothing is written"
        )
        super().__init__(f"{done}, the result differs from the preview: {shown}{more}")
        self.differences, self.written = tuple(differences), written


class PreviewRequired(PreviewError):
    """More devices would change than may without a look first."""

    def __init__(self, devices: int, limit: int) -> None:
        super().__init__(
            f"{devices} devices would change, and more than {limit} need a preview first: ask the same with ?preview=true"
            " (twinfold … --preview), and send its token as Twinfold-Preview (--preview-token)"
        )
        self.devices, self.limit = devices, limit


class PreviewBehind(PreviewError):
    """The projections do not have everything that the commands were decided on; `what` says where they stand."""

    def __init__(self, what: str) -> None:
        super().__init__(f"no preview at the moment: {what}; try again")
        self.what = what


class PreviewOvertaken(PreviewBehind):
    """The projections have more than the commands were decided on, and what was decided does not follow on that."""

    def __init__(self) -> None:
        super().__init__("somebody else wrote on the same meanwhile")


class ListMissing(PreviewError):
    """There is no list of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the preview has no list {name[:140]!r}")
        self.name = name
