"""The interface of a concept of the log: its commands, its events, and the functions that decide and evolve."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

Documents = Mapping[str, Any]
"""Documents by subject; `None` for a subject without one. A subject that was not loaded is not in it."""


def prefix_of(subject: str) -> str:
    """`rollout:prod` -> `rollout:`; empty for a deployment or a device, whose subjects are their ids."""
    return subject[: subject.find(":") + 1]


class ScopeLike(Protocol):
    """The devices and deployments that an author may access (`events.access.scope`)."""

    @property
    def text(self) -> str:
        """The condition; a deployment of the scope has the same text."""
        ...

    def holds(self, device_id: str, document: Any, /) -> bool:
        """Whether a device with this document is in the scope."""
        ...

    def insist(self, device_id: str, document: Any, /) -> None:
        """Raise `OutOfScope` if a device with this document is not in the scope."""
        ...


class CommandAuthor(msgspec.Struct, frozen=True):
    """The author of a command: `by` is `kind:id`, or empty if irrelevant; everything outside of a `scope` counts as missing."""

    by: str = ""
    scope: ScopeLike | None = None


class SubjectChange(msgspec.Struct, frozen=True):
    """An event of a subject that a decision proposes.

    `base` is the document that the event is applied to (`None`: the subject's own). `removes` are subjects whose documents
    are deleted. `generation` becomes the subject's generation if it is not `None`. `guard` is a subject and the generation
    that it must still have, as in `Proposed`.
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
    """A rule of one concept on the commands of another concept, which does not import it.

    `subjects` are the documents that the rule needs. `refuse` runs before the other concept decides and may raise. `follow`
    runs after that and may raise or add events.
    """

    subjects: Callable[[Any], Sequence[str]] = _nothing
    refuse: Callable[[Any, Documents], object] = _nothing
    follow: Callable[[Any, Documents], Iterable[SubjectChange]] = _nothing


class Decider(msgspec.Struct, frozen=True):
    """A concept, for producers and replay.

    - `commands` and `events`: its types. Its subjects start with one of `prefixes`, which can be empty.
    - `subjects`: the subjects that a command is decided on. `also`: further ones, by the documents loaded so far.
      `families`: prefixes of which all subjects are loaded.
    - `check` raises an error for a command that breaks a rule in every state.
    - `decide` returns the events of a checked command in order, none if it changes nothing; it raises one of the concept's
      errors if the current state does not allow the command.
    - `evolve` takes a document (or `None`), an event, its version, time and author, and returns the document after the event,
      or `None`. It does no arithmetic on the time (see AT_APPEND).
    - `decode` reads the document of a subject.
    - `is_of_fleet`: its events are in the fleet's stream, not in the partition of a device.
    - `is_scoped`: authors with a scope may send its commands.
    - `names_texts`: its `check` names a text that JSON cannot hold more precisely than the producer's check.
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

    def with_rules(self, *rules: ForeignRule) -> "Decider":
        """The same concept with the rules of other concepts, applied in this order."""

        def subjects(command: Any) -> Sequence[str]:
            return (*self.subjects(command), *(name for rule in rules for name in rule.subjects(command)))

        def decide(command: Any, documents: Documents, author: CommandAuthor) -> Iterable[SubjectChange]:
            for rule in rules:
                rule.refuse(command, documents)
            yield from self.decide(command, documents, author)
            for rule in rules:
                yield from rule.follow(command, documents)

        return msgspec.structs.replace(self, subjects=subjects, decide=decide)
