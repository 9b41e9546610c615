"""Why a waiver or a deployment is refused.

ReadinessError
├── WaiverInvalid     the name, rule, reason or a restriction is invalid
├── WaiverNotFound
└── NotReady          a deployment has findings of a severity that this server refuses
"""

from collections.abc import Sequence

from events.readiness.finding import Finding


class ReadinessError(Exception):
    """Any refusal because of readiness."""


class WaiverInvalid(ReadinessError):
    """A member of the waiver is invalid; `why` names the member and its rule."""

    def __init__(self, waiver_id: str, why: str) -> None:
        super().__init__(f"waiver {waiver_id[:80]!r}: {why}")
        self.waiver_id, self.why = waiver_id, why


class WaiverNotFound(ReadinessError):
    """The waiver does not exist, or was withdrawn."""

    def __init__(self, waiver_id: str) -> None:
        super().__init__(f"there is no waiver {waiver_id[:80]!r}")
        self.waiver_id = waiver_id


class NotReady(ReadinessError):
    """A deployment has findings of a refused severity; `findings` lists what to fix or waive."""

    def __init__(self, deployment_id: str, findings: Sequence[Finding]) -> None:
        listed = "; ".join(
            f"{finding.severity.value} {finding.rule} at {finding.pointer or '/'}: {finding.message}"
            for finding in findings
        )
        super().__init__(f"{deployment_id[:140]!r} is not ready: {listed}")
        self.deployment_id, self.findings = deployment_id, tuple(findings)
