"""Why a command on a rollout is refused.

RolloutError
├── PlanInvalid            a part of the plan breaks a rule
├── RolloutExists · RolloutNotFound
├── NotToBeRolledOut       the deployment has started already, or ended
├── RolloutForbidden       not in this state, or not by this person
└── RolloutActive          a deployment is not changed by hand while it is rolled out
"""


class RolloutError(Exception):
    """Any refusal of a command on a rollout."""


class PlanInvalid(RolloutError):
    """A part of a plan breaks a rule; `element` names it, as in `phases[1].percent`."""

    def __init__(self, deployment_id: str, element: str, rule: str) -> None:
        super().__init__(f"{deployment_id}: `{element}` {rule}")
        self.deployment_id, self.element, self.rule = deployment_id, element, rule


class RolloutExists(RolloutError):
    """A deployment is rolled out once."""

    def __init__(self, deployment_id: str) -> None:
        super().__init__(f"{deployment_id!r} has a rollout already; another one is another deployment")
        self.deployment_id = deployment_id


class RolloutNotFound(RolloutError):
    """The deployment has no rollout."""

    def __init__(self, deployment_id: str) -> None:
        super().__init__(f"{deployment_id!r} has no rollout")
        self.deployment_id = deployment_id


class NotToBeRolledOut(RolloutError):
    """Only what has not started can be rolled out in phases."""

    def __init__(self, deployment_id: str, admission: str) -> None:
        super().__init__(
            f"{deployment_id!r} cannot be rolled out in phases: its admission is {admission}; create it with NotStarted"
        )
        self.deployment_id, self.admission = deployment_id, admission


class RolloutForbidden(RolloutError):
    """The command is not for a rollout as it stands."""

    def __init__(self, deployment_id: str, why: str) -> None:
        super().__init__(f"{deployment_id}: {why}")
        self.deployment_id, self.why = deployment_id, why


class RolloutActive(RolloutError):
    """Who is admitted follows from the rollout."""

    def __init__(self, deployment_id: str) -> None:
        super().__init__(
            f"{deployment_id!r} is rolled out in phases: start, pause, abort or roll back its rollout instead"
        )
        self.deployment_id = deployment_id
