"""Checks new deployments by the readiness rules, and rejects those that the readiness policy does not allow."""

from collections.abc import Mapping, Sequence

import msgspec

from events.canonical import JsonObject
from events.deployment.commands import CreateDeployment
from events.deployment.events import DeploymentCreated
from events.manifest.problem import Severity
from events.producer.secrecy import in_references
from events.readiness.check import RANK, ReadinessReport, check
from events.readiness.errors import NotReady
from events.readiness.profile import Profile
from events.readiness.state import WaiverDocument
from events.readiness.subject import Document, ReadinessSubject, read_document
from events.readiness.waiver import Waiver


class ReadinessPolicy(msgspec.Struct, frozen=True):
    """Rejects a new deployment with findings of the severity `refuse` or worse that are not waived."""

    profile: Profile
    refuse: Severity

    def check(
        self, deployment_id: str, created: DeploymentCreated, *, waivers: Mapping[str, WaiverDocument], now: int
    ) -> "CheckedReadiness":
        """Check a new deployment at a time in milliseconds.

        Raises:
            NotReady: lists the findings that reject it.
        """
        document = document_of(deployment_id, created.content, created.labels, created.priority)
        terms = [waiver.waiver for waiver in waivers.values()]
        report = check(ReadinessSubject((document,)), self.profile, now=now, waivers=terms)
        blocking = [finding for finding in report.findings if RANK[finding.severity] <= RANK[self.refuse]]
        if blocking:
            raise NotReady(deployment_id, blocking)
        return CheckedReadiness(report, waivers)


class CheckedReadiness(msgspec.Struct, frozen=True):
    """The readiness report of a new deployment, and the waivers, by id, at the time of the check."""

    report: ReadinessReport
    waivers: Mapping[str, WaiverDocument]


def document_of(deployment_id: str, content: JsonObject, labels: Mapping[str, str], priority: int) -> Document:
    """A deployment as the input of a check, with references for its secrets; its labels override the profile."""
    return read_document({"content": content, "labels": labels, "priority": priority}, name=deployment_id)


def report_on(command: CreateDeployment, profile: Profile, *, waivers: Sequence[Waiver], now: int) -> ReadinessReport:
    """The readiness report on a deployment before it is created."""
    referring = in_references(command)
    assert isinstance(referring, CreateDeployment)
    document = document_of(referring.deployment_id, referring.content, referring.labels, referring.priority)
    return check(ReadinessSubject((document,)), profile, now=now, waivers=waivers)
