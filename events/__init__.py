"""twinfold's facts: what happened, and what follows from it. A producer script finds what it needs here."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from events.deployment.commands import ChangeAdmission as ChangeAdmission
    from events.deployment.commands import CreateDeployment as CreateDeployment
    from events.deployment.commands import DeleteDeployment as DeleteDeployment
    from events.deployment.commands import UpdateDeployment as UpdateDeployment
    from events.device.commands import AcknowledgeDesired as AcknowledgeDesired
    from events.device.commands import CreateModule as CreateModule
    from events.device.commands import DeleteModule as DeleteModule
    from events.device.commands import PatchTags as PatchTags
    from events.device.commands import PatchTwin as PatchTwin
    from events.device.commands import RegisterDevice as RegisterDevice
    from events.device.commands import ReplaceTwin as ReplaceTwin
    from events.device.commands import ReportProperties as ReportProperties
    from events.device.commands import RetireDevice as RetireDevice
    from events.device.commands import UpdateDevice as UpdateDevice
    from events.device.commands import UpdateModule as UpdateModule
    from events.device.errors import DeviceExists as DeviceExists
    from events.producer.errors import CommandsRefused as CommandsRefused
    from events.producer.errors import ConflictPersists as ConflictPersists
    from events.producer.opening import open_producer as open_producer
    from events.producer.producer import Producer as Producer
    from events.producer.producer import Report as Report

_WHERE = {
    "AcknowledgeDesired": "events.device.commands",
    "ChangeAdmission": "events.deployment.commands",
    "CommandsRefused": "events.producer.errors",
    "ConflictPersists": "events.producer.errors",
    "CreateDeployment": "events.deployment.commands",
    "CreateModule": "events.device.commands",
    "DeviceExists": "events.device.errors",
    "DeleteDeployment": "events.deployment.commands",
    "DeleteModule": "events.device.commands",
    "PatchTags": "events.device.commands",
    "PatchTwin": "events.device.commands",
    "Producer": "events.producer.producer",
    "RegisterDevice": "events.device.commands",
    "ReplaceTwin": "events.device.commands",
    "Report": "events.producer.producer",
    "ReportProperties": "events.device.commands",
    "RetireDevice": "events.device.commands",
    "UpdateDeployment": "events.deployment.commands",
    "UpdateDevice": "events.device.commands",
    "UpdateModule": "events.device.commands",
    "open_producer": "events.producer.opening",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, and only that: a rule of the pure rooms should not cost a Redis client."""
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(where), name)
