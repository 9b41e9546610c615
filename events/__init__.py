"""twinfold's events and the API for producer scripts.

A producer sends commands. Each becomes events in the log, or is rejected with an error that names the rule:

    from events import PatchTags, RegisterDevice, open_producer

    with open_producer("redis://127.0.0.1:6379/0", by="producer:inventory") as producer:
        producer.send(RegisterDevice("edge-7"))
        producer.send(PatchTags("edge-7", {"site": "north"}))
        report = producer.flush()

`report.refused` has each rejected command with its error. The errors of a concept have a common class: `DeviceError`,
`DeploymentError`, `RolloutError`, `UpdateError`, `ReadinessError`, `SecretsError`. `ProducerError` is an error before the log,
`LogError` one of the log itself (`LogUnavailable`: retry later).
"""

import re
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from events.access.errors import OutOfScope as OutOfScope
    from events.deployment.commands import ChangeAdmission as ChangeAdmission
    from events.deployment.commands import CreateDeployment as CreateDeployment
    from events.deployment.commands import DeleteDeployment as DeleteDeployment
    from events.deployment.commands import ScheduleDeployment as ScheduleDeployment
    from events.deployment.commands import UpdateDeployment as UpdateDeployment
    from events.deployment.commands import Validation as Validation
    from events.deployment.errors import AdmissionInvalid as AdmissionInvalid
    from events.deployment.errors import DeploymentError as DeploymentError
    from events.deployment.errors import DeploymentEtagMismatch as DeploymentEtagMismatch
    from events.deployment.errors import DeploymentExists as DeploymentExists
    from events.deployment.errors import DeploymentIdInvalid as DeploymentIdInvalid
    from events.deployment.errors import DeploymentNotFound as DeploymentNotFound
    from events.deployment.errors import DeploymentsFull as DeploymentsFull
    from events.deployment.errors import LabelsInvalid as LabelsInvalid
    from events.deployment.errors import MetricsInvalid as MetricsInvalid
    from events.deployment.errors import PriorityInvalid as PriorityInvalid
    from events.deployment.errors import ScheduleForbidden as ScheduleForbidden
    from events.deployment.errors import ScheduleInvalid as ScheduleInvalid
    from events.deployment.errors import SchemaVersionInvalid as SchemaVersionInvalid
    from events.deployment.events import Everyone as Everyone
    from events.deployment.events import NotStarted as NotStarted
    from events.deployment.events import Schedule as Schedule
    from events.device.authentication import KEYS_DECLINED as KEYS_DECLINED
    from events.device.commands import AcknowledgeDesired as AcknowledgeDesired
    from events.device.commands import CreateModule as CreateModule
    from events.device.commands import DeleteModule as DeleteModule
    from events.device.commands import PatchTags as PatchTags
    from events.device.commands import PatchTwin as PatchTwin
    from events.device.commands import RegisterDevice as RegisterDevice
    from events.device.commands import ReplaceTwin as ReplaceTwin
    from events.device.commands import ReportProperties as ReportProperties
    from events.device.commands import RetireDevice as RetireDevice
    from events.device.commands import SetConfiguration as SetConfiguration
    from events.device.commands import UpdateDevice as UpdateDevice
    from events.device.commands import UpdateModule as UpdateModule
    from events.device.errors import AuthenticationInvalid as AuthenticationInvalid
    from events.device.errors import DeliveryInvalid as DeliveryInvalid
    from events.device.errors import DeviceError as DeviceError
    from events.device.errors import DeviceExists as DeviceExists
    from events.device.errors import DeviceIdInvalid as DeviceIdInvalid
    from events.device.errors import DeviceNotFound as DeviceNotFound
    from events.device.errors import EtagMismatch as EtagMismatch
    from events.device.errors import IdentityTextInvalid as IdentityTextInvalid
    from events.device.errors import ModuleExists as ModuleExists
    from events.device.errors import ModuleIdInvalid as ModuleIdInvalid
    from events.device.errors import ModuleNotFound as ModuleNotFound
    from events.device.errors import NotEdgeCapable as NotEdgeCapable
    from events.device.errors import SystemModuleReserved as SystemModuleReserved
    from events.device.errors import TooManyModules as TooManyModules
    from events.device.errors import TwinLimitExceeded as TwinLimitExceeded
    from events.device.tags import tag_value as tag_value
    from events.log.errors import EventTooLarge as EventTooLarge
    from events.log.errors import LogError as LogError
    from events.log.errors import LogNotInitialised as LogNotInitialised
    from events.log.errors import LogUnavailable as LogUnavailable
    from events.log.errors import UnsafeRedis as UnsafeRedis
    from events.log.wake import WakeFailed as WakeFailed
    from events.manifest.errors import CreateOptionsInvalid as CreateOptionsInvalid
    from events.manifest.errors import ImageInvalid as ImageInvalid
    from events.manifest.errors import ManifestInvalid as ManifestInvalid
    from events.manifest.errors import ManifestPartInvalid as ManifestPartInvalid
    from events.manifest.errors import RouteInvalid as RouteInvalid
    from events.producer.errors import CommandInvalid as CommandInvalid
    from events.producer.errors import CommandsRefused as CommandsRefused
    from events.producer.errors import ConflictPersists as ConflictPersists
    from events.producer.errors import DecisionInvalid as DecisionInvalid
    from events.producer.errors import NoVault as NoVault
    from events.producer.errors import ProducerError as ProducerError
    from events.producer.errors import Refused as Refused
    from events.producer.producer import Producer as Producer
    from events.producer.producer import ProducerReport as ProducerReport
    from events.producer.producer_factory import open_producer as open_producer
    from events.query.errors import ConditionInvalid as ConditionInvalid
    from events.readiness.commands import GrantWaiver as GrantWaiver
    from events.readiness.commands import WithdrawWaiver as WithdrawWaiver
    from events.readiness.errors import NotReady as NotReady
    from events.readiness.errors import ReadinessError as ReadinessError
    from events.readiness.errors import WaiverInvalid as WaiverInvalid
    from events.readiness.errors import WaiverNotFound as WaiverNotFound
    from events.rollout.commands import AbortRollout as AbortRollout
    from events.rollout.commands import ApprovePhase as ApprovePhase
    from events.rollout.commands import CreateRollout as CreateRollout
    from events.rollout.commands import PauseRollout as PauseRollout
    from events.rollout.commands import RecordResults as RecordResults
    from events.rollout.commands import ResumeRollout as ResumeRollout
    from events.rollout.commands import RetryFailed as RetryFailed
    from events.rollout.commands import RollBack as RollBack
    from events.rollout.commands import SkipPhase as SkipPhase
    from events.rollout.commands import StartRollout as StartRollout
    from events.rollout.errors import NotToBeRolledOut as NotToBeRolledOut
    from events.rollout.errors import PlanInvalid as PlanInvalid
    from events.rollout.errors import RolloutActive as RolloutActive
    from events.rollout.errors import RolloutError as RolloutError
    from events.rollout.errors import RolloutExists as RolloutExists
    from events.rollout.errors import RolloutForbidden as RolloutForbidden
    from events.rollout.errors import RolloutNotFound as RolloutNotFound
    from events.rollout.plan import Failure as Failure
    from events.rollout.plan import Gate as Gate
    from events.rollout.plan import Joiners as Joiners
    from events.rollout.plan import Offline as Offline
    from events.rollout.plan import OnFailure as OnFailure
    from events.rollout.plan import Phase as Phase
    from events.rollout.plan import Rate as Rate
    from events.rollout.plan import RolloutPlan as RolloutPlan
    from events.rollout.plan import Spread as Spread
    from events.rollout.plan import Window as Window
    from events.secrets.errors import SecretsError as SecretsError
    from events.update.commands import CancelUpdateDeployment as CancelUpdateDeployment
    from events.update.commands import DefineGroup as DefineGroup
    from events.update.commands import DeleteUpdate as DeleteUpdate
    from events.update.commands import DeleteUpdateDeployment as DeleteUpdateDeployment
    from events.update.commands import DeployUpdate as DeployUpdate
    from events.update.commands import ImportUpdate as ImportUpdate
    from events.update.commands import RemoveGroup as RemoveGroup
    from events.update.commands import RetryUpdateDeployment as RetryUpdateDeployment
    from events.update.errors import GroupBusy as GroupBusy
    from events.update.errors import GroupDeploymentExists as GroupDeploymentExists
    from events.update.errors import GroupDeploymentForbidden as GroupDeploymentForbidden
    from events.update.errors import GroupDeploymentNotFound as GroupDeploymentNotFound
    from events.update.errors import GroupInvalid as GroupInvalid
    from events.update.errors import GroupNotFound as GroupNotFound
    from events.update.errors import UpdateError as UpdateError
    from events.update.errors import UpdateExists as UpdateExists
    from events.update.errors import UpdateInUse as UpdateInUse
    from events.update.errors import UpdateInvalid as UpdateInvalid
    from events.update.errors import UpdateNotFound as UpdateNotFound
    from events.update.events import RollbackPolicy as RollbackPolicy
    from events.update.names import UpdateId as UpdateId

_IMPORT = re.compile(r"^    from (\S+) import (\w+) as \2$", re.MULTILINE)

# Type checkers need the names as import statements; a second list for `__getattr__` could differ from them.
_WHERE = {name: module for module, name in _IMPORT.findall(Path(__file__).read_text(encoding="utf-8"))}

__all__ = sorted(_WHERE)  # noqa: PLE0605 - help() and `import *` read it; the imports above are its one source

# help(events) shows every class in full, many pages; this list by module comes before them.
_BY_MODULE = groupby(_WHERE, key=_WHERE.__getitem__)
__doc__ = f"{__doc__}\n" + "\n".join(f"{module}: {', '.join(names)}" for module, names in _BY_MODULE)


def __dir__() -> list[str]:
    """The names above for `dir(events)`, imported or not."""
    return sorted({*globals(), *_WHERE})


def __getattr__(name: str) -> Any:
    """Import a name when it is first used."""
    # At import time, all of them would load redis-py, RQ and cryptography for every process that imports `events.canonical`.
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(where), name)
