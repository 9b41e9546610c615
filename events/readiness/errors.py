"""Why a waiver is refused, or a deployment.

ReadinessError
├── WaiverInvalid     a name, a rule or a reason that cannot be one
├── WaiverNotFound
└── NotReady          a deployment with findings that are not let in
"""

from collections.abc import Sequence

from events.readiness.finding import Finding


class ReadinessError(Exception):
    """Any refusal in the name of readiness."""


class WaiverInvalid(ReadinessError):
    """The waiver cannot be like this."""

    def __init__(self, waiver_id: str, why: str) -> None:
        super().__init__(f"waiver {waiver_id[:80]!r}: {why}")
        self.waiver_id, self.why = waiver_id, why


class WaiverNotFound(ReadinessError):
    """There is no such waiver, or it was withdrawn."""

    def __init__(self, waiver_id: str) -> None:
        super().__init__(f"there is no waiver {waiver_id[:80]!r}")
        self.waiver_id = waiver_id


class NotReady(ReadinessError):
    """The content of a deployment is not fit for where it is to go; `findings` says what to mend, or to waive."""

    def __init__(self, deployment_id: str, findings: Sequence[Finding]) -> None:
        listed = "; ".join(
            f"{finding.severity.value} {finding.rule} at {finding.pointer or '/'}: {finding.message}"
            for finding in findings
        )
        super().__init__(f"{deployment_id[:140]!r} is not ready: {listed}")
        self.deployment_id, self.findings = deployment_id, tuple(findings)
