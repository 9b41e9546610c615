"""Tags that say something about a person: their values are taken out of commands as secrets are, and nobody is found by them."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import msgspec

from events.access.commands import IssueToken
from events.canonical import Json, JsonObject
from events.deployment.commands import CreateDeployment, UpdateDeployment
from events.deployment.errors import MetricsInvalid
from events.device.commands import PatchTags, PatchTwin, ReplaceTwin
from events.properties import SECRET, STRING_BYTES_MAX, is_secret
from events.query.condition import parse_condition
from events.query.errors import ConditionInvalid, QueryInvalid
from events.query.module_condition import is_module_condition, parse_module_condition
from events.query.parse import parse as parse_query
from events.query.text import printed_path
from events.query.tree import Aggregate, Path, paths_of
from events.rollout.commands import CreateRollout
from events.secrets.errors import SecretTextInvalid
from events.secrets.references import MASK, Secret
from events.update.commands import DefineGroup

C = TypeVar("C")

_TAGGING = (PatchTags, PatchTwin, ReplaceTwin)


class Personal(msgspec.Struct, frozen=True):
    """The paths below `tags` whose values are personal, each with all that is below it."""

    paths: tuple[Path, ...] = ()

    def holds(self, path: Path) -> bool:
        """Whether the tag at a path (without `tags`) is personal."""
        return any(path[: len(one)] == one for one in self.paths)

    def touches(self, path: Path) -> bool:
        """Whether there is a personal tag at a path, below it or above it."""
        return any(one[: len(path)] == path[: len(one)] for one in self.paths)

    def take(self, command: C, *, new_id: Callable[[], str]) -> tuple[C, tuple[Secret, ...]]:
        """The command with a reference for each personal value, and those values.

        Raises:
            SecretTextInvalid: one is not a text of at most 4,096 bytes.
        """
        if not self.paths or not isinstance(command, _TAGGING) or not isinstance(command.tags, dict):
            return command, ()
        found: list[Secret] = []
        tags = self._below(command.tags, (), new_id, found)
        replaced: Any = msgspec.structs.replace(command, tags=tags) if found else command
        return replaced, tuple(found)

    def _below(self, value: JsonObject, path: Path, new_id: Callable[[], str], found: list[Secret]) -> JsonObject:
        taken: JsonObject = {}
        for name, item in value.items():
            location = (*path, name)
            if isinstance(item, dict):
                taken[name] = self._below(item, location, new_id, found)
            elif item is None or not self.holds(location):
                taken[name] = item
            else:
                found.append(Secret(new_id(), _text(item, location)))
                taken[name] = {SECRET: found[-1].id}
        return taken

    def check(self, command: object) -> None:
        """Refuse a condition or a metric that looks at a personal tag: nobody knows for whom it would hold.

        Raises:
            ConditionInvalid, MetricsInvalid: names the tag.
        """
        if self.paths:
            for text in _conditions(command):
                self.check_condition(text)
            if isinstance(command, CreateDeployment | UpdateDeployment):
                self._check_metrics(command.deployment_id, command.metrics or {})

    def _check_metrics(self, deployment_id: str, metrics: dict[str, str]) -> None:
        for metric, text in metrics.items():
            try:
                self.check_query(text)
            except QueryInvalid as error:
                raise MetricsInvalid(deployment_id, f"{metric[:140]!r}: {error}") from error

    def check_condition(self, text: str) -> None:
        """Refuse one condition.

        Raises:
            ConditionInvalid: it looks at a personal tag, or cannot be read.
        """
        if not self.paths or not text.strip():
            return
        condition = parse_module_condition(text).condition if is_module_condition(text) else parse_condition(text)
        for path in self._touched(paths_of(condition)):
            reason = f"{printed_path(path)} is personal: kept as a secret, nobody is targeted by it"
            raise ConditionInvalid(text, column=_column(text, path), reason=reason)

    def check_query(self, text: str) -> None:
        """Refuse a query whose rows depend on a personal tag; it may be shown, as `***`.

        Raises:
            QueryInvalid: its condition, its groups or an aggregate look at a personal tag, or it cannot be read.
        """
        if not self.paths:
            return
        query = parse_query(text)
        counted = {item.path for item in query.select if isinstance(item, Aggregate) and item.path is not None}
        for path in self._touched({*paths_of(query.where), *query.group_by, *counted}):
            reason = f"{printed_path(path)} is personal: kept as a secret, nobody is found or counted by it"
            raise QueryInvalid(text, column=_column(text, path), reason=reason)

    def _touched(self, some: Iterable[Path]) -> Iterator[Path]:
        return (path for path in sorted(some) if path[0] == "tags" and self.touches(path[1:]))

    def references(self, tags: Json) -> dict[str, str]:
        """The ids of the personal values in a device's tags, by path as `contact.mail`."""
        return {".".join(path): secret_id for path, secret_id in _references(tags, ()) if self.holds(path)}


def _column(text: str, path: Path) -> int:
    return max(1, text.find(path[-1]) + 1)


def _references(value: Json, path: Path) -> Iterator[tuple[Path, str]]:
    if is_secret(value):
        yield path, value[SECRET]
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _references(item, (*path, name))


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


def _text(value: Json, location: Path) -> str:
    path = ".".join(("tags", *location))
    if not isinstance(value, str):
        raise SecretTextInvalid(path, "is a text, as every personal tag")
    if not value.strip():
        raise SecretTextInvalid(path, "is not blank; null removes it")
    if value == MASK:
        raise SecretTextInvalid(path, f"is not {MASK}, which only stands for it in what is shown; leave the tag out")
    if (length := len(value.encode())) > STRING_BYTES_MAX:
        raise SecretTextInvalid(path, f"has at most {STRING_BYTES_MAX} bytes, this one has {length}")
    return value
