"""What can be asked of a deployment."""

import enum
from typing import Any

import msgspec
from typing_extensions import override

from events.deployment.events import Admission, Everyone, Schedule
from events.manifest.document import in_modern_form


class Validation(enum.Enum):
    """How closely a content is looked at when a deployment is created.

    FULL holds it to the schemas of both system modules too; CONTENT to what the hub itself enforces
    (contract/hub.md §1.3).
    """

    FULL = "full"
    CONTENT = "content"


class CreateDeployment(msgspec.Struct, frozen=True):
    """Create a deployment; standard or layered by its content (layered: `$edgeAgent` has no `properties.desired`).

    The content can hold secrets until they are taken out, so it does not show when the command is printed. One in the old
    form, with modules in `moduleContent`, is that with `modulesContent`.
    """

    deployment_id: str
    content: dict[str, Any]
    target_condition: str = ""
    priority: int = 0
    labels: dict[str, str] = {}
    metrics: dict[str, str] = {}
    schema_version: str = "1.0"
    admission: Admission = Everyone()
    validation: Validation = Validation.FULL
    schedule: Schedule | None = None

    def __post_init__(self) -> None:
        """Read the content as it is meant, whoever made the command."""
        msgspec.structs.force_setattr(self, "content", in_modern_form(self.content))

    @override
    def __repr__(self) -> str:
        return f"CreateDeployment({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    @override
    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, ... if name == "content" else getattr(self, name)) for name in self.__struct_fields__]


class UpdateDeployment(msgspec.Struct, frozen=True):
    """Change what may change; `None` leaves a part as it is. `if_match`: an etag, `*`, or no condition."""

    deployment_id: str
    target_condition: str | None = None
    priority: int | None = None
    labels: dict[str, str] | None = None
    metrics: dict[str, str] | None = None
    if_match: str | None = None


class ChangeAdmission(msgspec.Struct, frozen=True):
    """Say who may receive the deployment: nobody yet, everyone, some, or nobody any more.

    `due_at` (milliseconds) is for the scheduler, and `late_ms` how long ago that was.
    """

    deployment_id: str
    admission: Admission
    due_at: int | None = None
    late_ms: int | None = None


class ScheduleDeployment(msgspec.Struct, frozen=True):
    """Set when a deployment starts and ends; the start can be moved until then."""

    deployment_id: str
    schedule: Schedule


class DeleteDeployment(msgspec.Struct, frozen=True):
    """Delete a deployment; its devices fall back to what else targets them."""

    deployment_id: str
    if_match: str | None = None


DeploymentCommand = CreateDeployment | UpdateDeployment | ChangeAdmission | ScheduleDeployment | DeleteDeployment
