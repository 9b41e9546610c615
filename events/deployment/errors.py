"""Why a command on a deployment is refused.

DeploymentError
├── DeploymentIdInvalid · PriorityInvalid · LabelsInvalid · MetricsInvalid · SchemaVersionInvalid · AdmissionInvalid
├── ScheduleInvalid · ScheduleForbidden
├── DeploymentExists · DeploymentNotFound · DeploymentsFull
└── DeploymentEtagMismatch
The packages query and manifest refuse conditions and contents: ConditionInvalid, ManifestInvalid.
"""

from events.manifest.shape import shown


class DeploymentError(Exception):
    """Any refusal of a command on a deployment."""


class DeploymentIdInvalid(DeploymentError):
    """The id breaks the rule of contract/hub.md §1.3."""

    def __init__(self, deployment_id: object) -> None:
        super().__init__(
            f"deployment id {str(deployment_id)[:140]!r}: must have 1 to 128 lower-case letters, digits and - + % _ * ! '"
        )
        self.deployment_id = deployment_id


class PriorityInvalid(DeploymentError):
    """The priority is not a non-negative 32-bit integer (DESIGN §7)."""

    def __init__(self, deployment_id: str, priority: object) -> None:
        super().__init__(
            f"{deployment_id}: `priority` must be an integer from 0 to 2147483647, not {shown(priority, 40)!r}"
        )
        self.deployment_id, self.priority = deployment_id, priority


class LabelsInvalid(DeploymentError):
    """A label or its value is not a text (seed 000, Labels)."""

    def __init__(self, deployment_id: str, name: object) -> None:
        super().__init__(f"{deployment_id}: `labels`: {str(name)[:140]!r}: labels and their values must be text")
        self.deployment_id, self.name = deployment_id, name


class MetricsInvalid(DeploymentError):
    """Custom metrics must be at most five queries by name (contract/hub.md §6)."""

    def __init__(self, deployment_id: str, why: str) -> None:
        super().__init__(f"{deployment_id}: `metrics`: {why}")
        self.deployment_id, self.why = deployment_id, why


class SchemaVersionInvalid(DeploymentError):
    """The schema version is not a text (contract/hub.md §1.2)."""

    def __init__(self, deployment_id: str, schema_version: object) -> None:
        super().__init__(f"{deployment_id}: `schema_version` must be a text, not {shown(schema_version, 40)!r}")
        self.deployment_id, self.schema_version = deployment_id, schema_version


class AdmissionInvalid(DeploymentError):
    """A device that a deployment admits has an id that no device can have."""

    def __init__(self, deployment_id: str, device_id: object) -> None:
        super().__init__(f"{deployment_id}: `admission.device_ids`: {str(device_id)[:140]!r} is not a valid device id")
        self.deployment_id, self.device_id = deployment_id, device_id


class ScheduleInvalid(DeploymentError):
    """A time or the time zone is invalid."""

    def __init__(self, deployment_id: str, element: str, rule: str) -> None:
        super().__init__(f"{deployment_id}: `schedule.{element}` {rule}")
        self.deployment_id, self.element, self.rule = deployment_id, element, rule


class ScheduleForbidden(DeploymentError):
    """The times of a deployment can no longer change, or have changed since the scheduler read them."""

    def __init__(self, deployment_id: str, why: str) -> None:
        super().__init__(f"{deployment_id}: {why}")
        self.deployment_id, self.why = deployment_id, why


class DeploymentExists(DeploymentError):
    """A deployment with this id exists."""

    def __init__(self, deployment_id: str) -> None:
        super().__init__(
            f"a deployment {deployment_id!r} exists; its content never changes: create another with a higher priority"
        )
        self.deployment_id = deployment_id


class DeploymentNotFound(DeploymentError):
    """There is no deployment with this id; `why` says when it was deleted or which ids are similar, if the caller knows."""

    def __init__(self, deployment_id: str, *, why: str = "") -> None:
        super().__init__(f"there is no deployment {deployment_id!r}{why and f': {why}'}")
        self.deployment_id = deployment_id


class DeploymentsFull(DeploymentError):
    """The limit of deployments is reached; the text is that of IoT Hub (contract/hub.md §1.3)."""

    def __init__(self, deployments_max: int) -> None:
        super().__init__(f"Number of deployments exceed the maximum quota {deployments_max} for this IotHub.")
        self.deployments_max = deployments_max


class DeploymentEtagMismatch(DeploymentError):
    """The deployment has changed since the caller read the etag."""

    def __init__(self, deployment_id: str, *, expected: str, actual: str) -> None:
        super().__init__(f"{deployment_id}: the etag is {actual}, not {expected[:64]}; read the deployment again")
        self.deployment_id, self.expected, self.actual = deployment_id, expected, actual
