"""Why a command on a rollout is rejected.

RolloutError
├── PlanInvalid            a part of the plan breaks a rule
├── RolloutExists · RolloutNotFound
├── NotToBeRolledOut       the deployment has started already, or ended
├── RolloutForbidden       not allowed in this state, or not to this person
└── RolloutActive          an operator cannot change a deployment's admission while it is rolled out
"""


class RolloutError(Exception):
    """The base of every rejection of a command on a rollout."""


class PlanInvalid(RolloutError):
    """A part of a plan breaks a rule; `element` names it, as in `phases[1].percent`."""

    def __init__(self, deployment_id: str, element: str, rule: str) -> None:
        super().__init__(f"{deployment_id}: `{element}` {rule}")
        self.deployment_id, self.element, self.rule = deployment_id, element, rule


class RolloutExists(RolloutError):
    """A deployment has at most one rollout."""

    def __init__(self, deployment_id: str) -> None:
        super().__init__(f"{deployment_id!r} has a rollout already; create another deployment to roll out again")
        self.deployment_id = deployment_id


class RolloutNotFound(RolloutError):
    """The deployment has no rollout."""

    def __init__(self, deployment_id: str) -> None:
        super().__init__(f"{deployment_id!r} has no rollout")
        self.deployment_id = deployment_id


class NotToBeRolledOut(RolloutError):
    """A deployment that has started cannot be rolled out in phases."""

    def __init__(self, deployment_id: str, admission: str) -> None:
        super().__init__(
            f"{deployment_id!r} cannot be rolled out in phases: its admission is {admission}; create it with NotStarted"
        )
        self.deployment_id, self.admission = deployment_id, admission


class RolloutForbidden(RolloutError):
    """The current state of a rollout, or its plan, does not allow the command."""

    def __init__(self, deployment_id: str, why: str) -> None:
        super().__init__(f"{deployment_id}: {why}")
        self.deployment_id, self.why = deployment_id, why


class RolloutActive(RolloutError):
    """The rollout decides which devices are admitted, so an operator cannot change the admission."""

    def __init__(self, deployment_id: str) -> None:
        super().__init__(
            f"{deployment_id!r} is rolled out in phases: start, pause, abort or roll back its rollout instead"
        )
        self.deployment_id = deployment_id
