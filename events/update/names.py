"""The names of updates, groups and their deployments, in commands and as subjects."""

import re

import msgspec

# A deployment id has no colon, so a subject with one of these prefixes cannot be the id of a deployment.
GROUP = "group:"
UPDATE = "update:"

UPDATE_DEPLOYMENT = "update+"
"""The prefix of the deployments that bring an update to a group."""

DEFAULT_GROUP = "$default"
"""The group of the devices without a group tag."""

# A rollback's deployment is named after the deployment that it replaces; this leaves 16 of 128 characters for its suffix.
UPDATE_DEPLOYMENT_CHARACTERS_MAX = 112

# HTTP clients remove . and .. from a path, so such a part would address another resource.
_PART = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,64}")
_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){1,3}")
_NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._~-]{1,128}")
_PLAIN = re.compile(r"[^a-z0-9_-]")


class UpdateId(msgspec.Struct, frozen=True, forbid_unknown_fields=True, order=True):
    """The id of an update: provider, name and version (two to four numbers)."""

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
        """The numbers of the version, for comparison: 1.10 is newer than 1.9."""
        return tuple(map(int, self.version.split(".")))

    @property
    def problem(self) -> str:
        """What is wrong with the id; empty if it is valid."""
        for member in ("provider", "name"):
            if not _PART.fullmatch(getattr(self, member)):
                return f"{member} must have 1 to 64 ASCII letters, digits and . _ -, and must not be . or .."
        return "" if _VERSION.fullmatch(self.version) else "version must have 2 to 4 numbers, such as 1.0 or 1.2.3.4"


def read_update(text: str) -> UpdateId | None:
    """`contoso/camera/1.2` -> its parts, also with the prefix of a subject; `None` if the text is not a valid id."""
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
    """Whether a text is a valid id of a deployment of a group."""
    return _NAME.fullmatch(text) is not None


def is_group_name(text: str) -> bool:
    """Whether a text is a valid name of a group."""
    return text == DEFAULT_GROUP or is_name(text)


def update_deployment_of(group: str, deployment: str) -> str:
    """The id of the deployment that brings an update to a group: (`North`, `1`) -> `update+%4eorth+1`."""
    # Ids of deployments have no capital letters; escaping keeps two groups apart that differ in case alone.
    return f"{UPDATE_DEPLOYMENT}{_escaped(group)}+{_escaped(deployment)}"


def group_and_deployment(update_deployment: str) -> tuple[str, str] | None:
    """The group and the id within it of an update's deployment; `None` for any other deployment."""
    group, _, deployment = update_deployment.removeprefix(UPDATE_DEPLOYMENT).partition("+")
    names = (_unescaped(group), _unescaped(deployment))
    # Several texts unescape to one name (`n` and `%6e`); only the canonical text is an id that this system writes.
    return names if update_deployment_of(*names) == update_deployment else None


def _escaped(text: str) -> str:
    return _PLAIN.sub(lambda match: f"%{ord(match[0]):02x}", text)


def _unescaped(text: str) -> str:
    return re.sub(r"%([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), text)
