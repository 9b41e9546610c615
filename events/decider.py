"""What a concept of the log is made of: its commands, what they are decided on, and the events that follow."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

Documents = Mapping[str, Any]
"""The documents of subjects; `None` for a subject that has none. A subject that was not loaded is not in it."""


def prefix_of(subject: str) -> str:
    """`rollout:prod` -> `rollout:`; empty for a deployment or a device, whose ids stand alone."""
    return subject[: subject.find(":") + 1]


class ScopeLike(Protocol):
    """The devices, and the deployments, that the author of a command reaches (`events.access.scope`)."""

    @property
    def text(self) -> str:
        """The condition; a deployment of the scope carries the same text."""
        ...

    def holds(self, device_id: str, document: Any, /) -> bool:
        """Whether a device with this document is in the scope."""
        ...

    def insist(self, device_id: str, document: Any, /) -> None:
        """Raise `OutOfScope` where a device would not be in the scope with this document."""
        ...


class CommandAuthor(msgspec.Struct, frozen=True):
    """Who gives a command: `by` is `kind:id`, empty where that is no matter; with a `scope`, all else is as if not there."""

    by: str = ""
    scope: ScopeLike | None = None


class SubjectChange(msgspec.Struct, frozen=True):
    """An event of a subject that a decision asks for.

    `base` is the document that the event is applied to; `None`: the subject's own. `removes` are subjects whose documents
    go with it. `generation` becomes the subject's where it is not `None`, and `guard` is a subject with the generation that
    it must still have, as in `Proposed`.
    """

    subject: str
    event: Any
    base: Any = None
    removes: tuple[str, ...] = ()
    generation: int | None = None
    guard: tuple[str, int] | None = None


def _nothing(*_: Any) -> tuple[()]:
    return ()


class ForeignRule(msgspec.Struct, frozen=True):
    """What a concept has to say of the commands of another one, which knows nothing of it.

    `subjects` are what it has to see for that. `refuse` raises before the other concept decides, and `follow` after that: it
    raises, or adds what follows.
    """

    subjects: Callable[[Any], Sequence[str]] = _nothing
    refuse: Callable[[Any, Documents], object] = _nothing
    follow: Callable[[Any, Documents], Iterable[SubjectChange]] = _nothing


class Decider(msgspec.Struct, frozen=True):
    """A concept as the producer and replay see it.

    `commands` and `events` are its types. `subjects` names what a command is decided on; `also` what else, after a look at
    what was loaded until now, and `families` prefixes whose subjects are all loaded. `check` raises for what no state could
    allow. `decide` gives the events of a checked command, in order, and none where nothing would change; it raises one of the
    concept's errors where the command may not happen as things stand.

    `evolve` takes a document (`None`: there is none), an event, its version, its time and its author, and gives the document
    after the event; `None` when nothing is left. It does no arithmetic on the time (see AT_APPEND). `decode` reads the document
    of a subject; subjects begin with one of `prefixes`, or with none (an empty prefix).

    `is_of_fleet`: its events stand in the fleet's stream, not in the partition of a device. `is_scoped`: authors with a scope
    may give its commands. `names_texts`: its check names a text that cannot be written better than the producer's does.
    """

    commands: tuple[type[Any], ...]
    events: tuple[type[Any], ...]
    subjects: Callable[[Any], Sequence[str]]
    check: Callable[[Any], None]
    decide: Callable[[Any, Documents, CommandAuthor], Iterable[SubjectChange]]
    evolve: Callable[[Any, Any, int, int, str], Any]
    decode: Callable[[str, bytes], Any]
    prefixes: tuple[str, ...]
    also: Callable[[Any, Documents], Iterable[str]] = _nothing
    families: Callable[[Any], Sequence[str]] = _nothing
    is_of_fleet: bool = True
    is_scoped: bool = False
    names_texts: bool = False

    def ruled(self, *rules: ForeignRule) -> "Decider":
        """The same concept under the rules of others, in this order."""

        def subjects(command: Any) -> Sequence[str]:
            return (*self.subjects(command), *(name for rule in rules for name in rule.subjects(command)))

        def decide(command: Any, documents: Documents, author: CommandAuthor) -> Iterable[SubjectChange]:
            for rule in rules:
                rule.refuse(command, documents)
            yield from self.decide(command, documents, author)
            for rule in rules:
                yield from rule.follow(command, documents)

        return msgspec.structs.replace(self, subjects=subjects, decide=decide)
