"""What the rules of readiness say of a new deployment, and whether that keeps it out."""

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
    """Findings of the severity `refuse` or worse keep a new deployment out, unless they are waived."""

    profile: Profile
    refuse: Severity

    def check(
        self, deployment_id: str, created: DeploymentCreated, *, waivers: Mapping[str, WaiverDocument], now: int
    ) -> "CheckedReadiness":
        """Check a new deployment at a time in milliseconds.

        Raises:
            NotReady: lists the findings that keep it out.
        """
        document = document_of(deployment_id, created.content, created.labels, created.priority)
        terms = [waiver.waiver for waiver in waivers.values()]
        report = check(ReadinessSubject((document,)), self.profile, now=now, waivers=terms)
        blocking = [finding for finding in report.findings if RANK[finding.severity] <= RANK[self.refuse]]
        if blocking:
            raise NotReady(deployment_id, blocking)
        return CheckedReadiness(report, waivers)


class CheckedReadiness(msgspec.Struct, frozen=True):
    """What the rules find in a new deployment, and the waivers by id that were granted then."""

    report: ReadinessReport
    waivers: Mapping[str, WaiverDocument]


def document_of(deployment_id: str, content: JsonObject, labels: Mapping[str, str], priority: int) -> Document:
    """A deployment as a check takes it, with references for the secrets in it; its labels go before the profile."""
    return read_document({"content": content, "labels": labels, "priority": priority}, name=deployment_id)


def report_on(command: CreateDeployment, profile: Profile, *, waivers: Sequence[Waiver], now: int) -> ReadinessReport:
    """A check of the content of a deployment by itself, as it will stand."""
    taken = in_references(command)
    assert isinstance(taken, CreateDeployment)
    document = document_of(taken.deployment_id, taken.content, taken.labels, taken.priority)
    return check(ReadinessSubject((document,)), profile, now=now, waivers=waivers)
