"""Why a command on a deployment is refused.

DeploymentError
├── DeploymentIdInvalid · PriorityInvalid · LabelsInvalid · MetricsInvalid · SchemaVersionInvalid · AdmissionInvalid
├── ScheduleInvalid · ScheduleForbidden
├── DeploymentExists · DeploymentNotFound · DeploymentsFull
└── DeploymentEtagMismatch
Conditions and contents are refused by their own rooms: ConditionInvalid, ManifestInvalid.
"""

_BITS_SHOWN = 128


def _shown(value: object) -> str:
    # Python refuses to write integers of thousands of digits in decimal.
    huge = isinstance(value, int) and value.bit_length() > _BITS_SHOWN
    return f"{value:x}"[:40] if huge else repr(str(value)[:40])


class DeploymentError(Exception):
    """Any refusal of a command on a deployment."""


class DeploymentIdInvalid(DeploymentError):
    """The id breaks contract/hub.md §1.3."""

    def __init__(self, deployment_id: object) -> None:
        super().__init__(
            f"deployment id {str(deployment_id)[:140]!r}: 1 to 128 lower-case letters, digits and - + % _ * ! '"
        )
        self.deployment_id = deployment_id


class PriorityInvalid(DeploymentError):
    """The priority is not a non-negative 32-bit integer (DESIGN §7)."""

    def __init__(self, deployment_id: str, priority: object) -> None:
        super().__init__(f"{deployment_id}: `priority` is an integer from 0 to 2147483647, not {_shown(priority)}")
        self.deployment_id, self.priority = deployment_id, priority


class LabelsInvalid(DeploymentError):
    """Labels are text by text (seed 000, Labels)."""

    def __init__(self, deployment_id: str, name: object) -> None:
        super().__init__(f"{deployment_id}: `labels`: {str(name)[:140]!r}: labels and their values are text")
        self.deployment_id, self.name = deployment_id, name


class MetricsInvalid(DeploymentError):
    """Custom metrics are queries by name, five at most (contract/hub.md §6)."""

    def __init__(self, deployment_id: str, why: str) -> None:
        super().__init__(f"{deployment_id}: `metrics`: {why}")
        self.deployment_id, self.why = deployment_id, why


class SchemaVersionInvalid(DeploymentError):
    """The schema version is a text (contract/hub.md §1.2)."""

    def __init__(self, deployment_id: str, schema_version: object) -> None:
        super().__init__(f"{deployment_id}: `schema_version` is a text, not {str(schema_version)[:40]!r}")
        self.deployment_id, self.schema_version = deployment_id, schema_version


class AdmissionInvalid(DeploymentError):
    """The devices that a deployment is admitted for are not named by ids that devices can have."""

    def __init__(self, deployment_id: str, device_id: object) -> None:
        super().__init__(
            f"{deployment_id}: `admission.device_ids`: {str(device_id)[:140]!r} cannot be admitted, as no device can have this id"
        )
        self.deployment_id, self.device_id = deployment_id, device_id


class ScheduleInvalid(DeploymentError):
    """A time or a time zone that cannot be."""

    def __init__(self, deployment_id: str, element: str, rule: str) -> None:
        super().__init__(f"{deployment_id}: `schedule.{element}` {rule}")
        self.deployment_id, self.element, self.rule = deployment_id, element, rule


class ScheduleForbidden(DeploymentError):
    """The times of a deployment cannot be changed any more, or are not those that were acted on."""

    def __init__(self, deployment_id: str, why: str) -> None:
        super().__init__(f"{deployment_id}: {why}")
        self.deployment_id, self.why = deployment_id, why


class DeploymentExists(DeploymentError):
    """There is a deployment of this id."""

    def __init__(self, deployment_id: str) -> None:
        super().__init__(
            f"a deployment {deployment_id!r} exists; its content never changes: create another with a higher priority"
        )
        self.deployment_id = deployment_id


class DeploymentNotFound(DeploymentError):
    """There is no deployment of this id; `why` is what became of it, or what it may be called, where somebody looked."""

    def __init__(self, deployment_id: str, *, why: str = "") -> None:
        super().__init__(f"there is no deployment {deployment_id!r}{why and f': {why}'}")
        self.deployment_id = deployment_id


class DeploymentsFull(DeploymentError):
    """There are as many deployments as the settings allow; the text is the hub's (contract/hub.md §1.3)."""

    def __init__(self, deployments_max: int) -> None:
        super().__init__(f"Number of deployments exceed the maximum quota {deployments_max} for this IotHub.")
        self.deployments_max = deployments_max


class DeploymentEtagMismatch(DeploymentError):
    """The deployment has changed since the etag was read."""

    def __init__(self, deployment_id: str, *, expected: str, actual: str) -> None:
        super().__init__(f"{deployment_id}: the etag is {actual}, not {expected[:64]}; read the deployment again")
        self.deployment_id, self.expected, self.actual = deployment_id, expected, actual
