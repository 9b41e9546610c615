"""Personal tags: their values are taken out of commands like secrets, and no condition or query may use them."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import msgspec

from events.access.commands import IssueToken
from events.canonical import Json, JsonObject
from events.deployment.commands import CreateDeployment, UpdateDeployment
from events.deployment.errors import MetricsInvalid
from events.device.commands import PatchTags, PatchTwin, ReplaceTwin
from events.properties import SECRET, is_secret
from events.query.condition import parse_condition
from events.query.errors import ConditionInvalid, QueryInvalid
from events.query.module_condition import is_module_condition, parse_module_condition
from events.query.parse import parse as parse_query
from events.query.text import printed_path
from events.query.tree import Aggregate, Path, paths_of
from events.rollout.commands import CreateRollout
from events.secrets.errors import SecretTextInvalid
from events.secrets.references import MASK, Secret, checked_text
from events.update.commands import DefineGroup

C = TypeVar("C")


class Personal(msgspec.Struct, frozen=True):
    """The paths of personal tags, without `tags`; everything below a path is personal too."""

    paths: tuple[Path, ...] = ()

    def holds(self, path: Path) -> bool:
        """Whether the tag at a path (without `tags`) is personal."""
        return any(path[: len(personal)] == personal for personal in self.paths)

    def take(self, command: C, *, new_id: Callable[[], str]) -> tuple[C, tuple[Secret, ...]]:
        """The command with references in place of its personal values, and those values; raises as `checked_text`."""
        if not self.paths or not isinstance(command, PatchTags | PatchTwin | ReplaceTwin):
            return command, ()
        if not isinstance(command.tags, dict):
            return command, ()
        secrets: list[Secret] = []

        def below(value: JsonObject, path: Path) -> JsonObject:
            replaced: JsonObject = {}
            for name, item in value.items():
                location = (*path, name)
                if isinstance(item, dict):
                    replaced[name] = below(item, location)
                elif item is None or not self.holds(location):
                    replaced[name] = item
                else:
                    secrets.append(Secret(new_id(), _text(item, ".".join(("tags", *location)))))
                    replaced[name] = {SECRET: secrets[-1].id}
            return replaced

        tags = below(command.tags, ())
        replaced: Any = msgspec.structs.replace(command, tags=tags) if secrets else command
        return replaced, tuple(secrets)

    def check(self, command: object) -> None:
        """Reject a condition (ConditionInvalid) or a metric (MetricsInvalid) that uses a personal tag."""
        # The devices that a condition selects would tell the hidden value, and after the value is erased the decision could not
        # be replayed (docs/decisions/0031).
        if not self.paths:
            return
        for text in _conditions(command):
            self.check_condition(text)
        if isinstance(command, CreateDeployment | UpdateDeployment):
            for metric, text in (command.metrics or {}).items():
                try:
                    self.check_query(text)
                except QueryInvalid as error:
                    raise MetricsInvalid(command.deployment_id, f"{metric[:140]!r}: {error}") from error

    def check_condition(self, text: str) -> None:
        """Reject a condition that uses a personal tag, or whose syntax is wrong, with a ConditionInvalid."""
        if not self.paths or not text.strip():
            return
        condition = parse_module_condition(text).condition if is_module_condition(text) else parse_condition(text)
        for path in self._touched(paths_of(condition)):
            reason = f"{printed_path(path)} is personal: it is stored as a secret, and no condition can use it"
            raise ConditionInvalid(text, column=_column(text, path), reason=reason)

    def check_query(self, text: str) -> None:
        """Reject (QueryInvalid) a query whose rows depend on a personal tag; it may select the tag, shown as `***`."""
        if not self.paths:
            return
        query = parse_query(text)
        counted = {item.path for item in query.select if isinstance(item, Aggregate) and item.path is not None}
        for path in self._touched({*paths_of(query.where), *query.group_by, *counted}):
            reason = f"{printed_path(path)} is personal: it is stored as a secret, and a query can only select it"
            raise QueryInvalid(text, column=_column(text, path), reason=reason)

    def _touched(self, paths: Iterable[Path]) -> Iterator[Path]:
        """The paths of tags of which one at the path, above it or below it is personal."""
        for root, *path in sorted(paths):
            tag = tuple(path)
            if root == "tags" and any(personal[: len(tag)] == tag[: len(personal)] for personal in self.paths):
                yield (root, *tag)

    def references(self, tags: Json) -> dict[str, str]:
        """The ids of the personal values in a device's tags, by path as `contact.mail`."""
        references: dict[str, str] = {}

        def collect(value: Json, path: Path) -> None:
            if is_secret(value) and self.holds(path):
                references[".".join(path)] = value[SECRET]
            elif isinstance(value, dict):
                for name, item in value.items():
                    collect(item, (*path, name))

        collect(tags, ())
        return references


def _column(text: str, path: Path) -> int:
    return max(1, text.find(path[-1]) + 1)


def _conditions(command: object) -> Iterable[str]:
    match command:
        case CreateDeployment() | UpdateDeployment():
            return [command.target_condition] if command.target_condition else []
        case DefineGroup():
            return [command.condition]
        case IssueToken():
            return [command.scope]
        case CreateRollout():
            return [phase.condition for phase in command.plan.phases if phase.condition]
        case _:
            return []


def _text(value: Json, path: str) -> str:
    # A client that read the twin and writes it back would otherwise replace the value by asterisks.
    if value == MASK:
        raise SecretTextInvalid(path, f"must not be {MASK}, which answers show in its place; omit the tag")
    return checked_text(value, path, of_text=", as every personal tag", if_blank="; null removes it")
