"""Commands on deployments."""

import enum
from typing import Any

import msgspec
from typing_extensions import override

from events.deployment.events import Admission, Everyone, Schedule
from events.manifest.document import in_modern_form


class Validation(enum.Enum):
    """How a content is validated when a deployment is created.

    CONTENT checks only what IoT Hub itself enforces (contract/hub.md §1.3). FULL also checks the schemas of both system
    modules.
    """

    FULL = "full"
    CONTENT = "content"


class CreateDeployment(msgspec.Struct, frozen=True):
    """Create a deployment. It is layered if `$edgeAgent` in its content has no `properties.desired`.

    A content in the old form, with modules in `moduleContent`, is converted to `modulesContent`.
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
        """Convert a content in the old form, so that no caller can forget it."""
        msgspec.structs.force_setattr(self, "content", in_modern_form(self.content))

    # The content can have secrets until they are stored separately, so `repr` does not show it.
    @override
    def __repr__(self) -> str:
        return f"CreateDeployment({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    @override
    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, ... if name == "content" else getattr(self, name)) for name in self.__struct_fields__]


class UpdateDeployment(msgspec.Struct, frozen=True):
    """Change parts of a deployment; `None` keeps a part. `if_match` is an etag, `*`, or `None` for no condition."""

    deployment_id: str
    target_condition: str | None = None
    priority: int | None = None
    labels: dict[str, str] | None = None
    metrics: dict[str, str] | None = None
    if_match: str | None = None


class ChangeAdmission(msgspec.Struct, frozen=True):
    """Change which of the targeted devices are admitted: none before the start, all, some, or none after the end.

    Only the scheduler sets `due_at`, the scheduled time in milliseconds, and `late_ms`, the delay since then.
    """

    deployment_id: str
    admission: Admission
    due_at: int | None = None
    late_ms: int | None = None


class ScheduleDeployment(msgspec.Struct, frozen=True):
    """Set when a deployment starts and ends. The start can change only until the deployment has started."""

    deployment_id: str
    schedule: Schedule


class DeleteDeployment(msgspec.Struct, frozen=True):
    """Delete a deployment. Its devices get the other deployments that target them."""

    deployment_id: str
    if_match: str | None = None


DeploymentCommand = CreateDeployment | UpdateDeployment | ChangeAdmission | ScheduleDeployment | DeleteDeployment
