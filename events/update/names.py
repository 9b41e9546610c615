"""What updates, groups and their deployments are called, in commands and as subjects."""

import re

import msgspec

GROUP = "group:"
UPDATE = "update:"
"""What subjects begin with; no deployment's id has a colon."""

UPDATE_DEPLOYMENT = "update+"
"""What the id of a deployment begins with that carries an update to a group."""

DEFAULT_GROUP = "$default"
"""The group of whoever has no tag that says another."""

UPDATE_DEPLOYMENT_CHARACTERS_MAX = 112
"""A rollback's deployment is called after the one that it takes back, so a few of the 128 are left."""

# Clients read . and .. in a path as steps.
_PART = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,64}")
_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){1,3}")
_NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._~-]{1,128}")
_PLAIN = re.compile(r"[^a-z0-9_-]")


class UpdateId(msgspec.Struct, frozen=True, forbid_unknown_fields=True, order=True):
    """Who made an update, what it is, and which version of it: two to four numbers."""

    provider: str
    name: str
    version: str

    @property
    def text(self) -> str:
        """`contoso/camera/1.2`."""
        return f"{self.provider}/{self.name}/{self.version}"

    @property
    def subject(self) -> str:
        """`update:contoso/camera/1.2`."""
        return UPDATE + self.text

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version as what it is compared by: 1.10 is newer than 1.9."""
        return tuple(map(int, self.version.split(".")))

    @property
    def problem(self) -> str:
        """What is wrong with it; empty where nothing is."""
        for member in ("provider", "name"):
            if not _PART.fullmatch(getattr(self, member)):
                return f"{member} has 1 to 64 ASCII letters, digits and . _ -, and is not . or .."
        return "" if _VERSION.fullmatch(self.version) else "version is 2 to 4 numbers, as 1.0 or 1.2.3.4"


def read_update(text: str) -> UpdateId | None:
    """`contoso/camera/1.2` -> its parts, also with the prefix of a subject; `None` where it is no such text."""
    parts = text.removeprefix(UPDATE).split("/")
    update = UpdateId(*parts) if len(parts) == 3 else None  # noqa: PLR2004 - provider, name and version
    return None if update is None or update.problem else update


def group_subject(group: str) -> str:
    """`north` -> `group:north`."""
    return GROUP + group


def is_group(subject: str) -> bool:
    """Whether a subject of the fleet's stream is a group."""
    return subject.startswith(GROUP)


def is_update(subject: str) -> bool:
    """Whether a subject of the fleet's stream is an update."""
    return subject.startswith(UPDATE)


def is_name(text: str) -> bool:
    """Whether a deployment of a group can be called so."""
    return _NAME.fullmatch(text) is not None


def is_group_name(text: str) -> bool:
    """Whether a group can be called so."""
    return text == DEFAULT_GROUP or is_name(text)


def update_deployment_of(group: str, deployment: str) -> str:
    """The ordinary deployment that carries an update to a group: (`North`, `1`) -> `update+%4eorth+1`."""
    return f"{UPDATE_DEPLOYMENT}{_escaped(group)}+{_escaped(deployment)}"


def is_update_deployment(deployment_id: str) -> bool:
    """Whether a deployment belongs to a group's."""
    return deployment_id.startswith(UPDATE_DEPLOYMENT)


def deployed_update(update_deployment: str) -> tuple[str, str] | None:
    """The group and the deployment that `update_deployment_of` was given; `None` where it was not."""
    group, plus, deployment = update_deployment.removeprefix(UPDATE_DEPLOYMENT).partition("+")
    names = (_unescaped(group), _unescaped(deployment))
    return (
        names
        if is_update_deployment(update_deployment) and plus and update_deployment_of(*names) == update_deployment
        else None
    )


def _escaped(text: str) -> str:
    return _PLAIN.sub(lambda match: f"%{ord(match[0]):02x}", text)


def _unescaped(text: str) -> str:
    return re.sub(r"%([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), text)
