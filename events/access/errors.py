"""Why a command on policies or tokens is refused.

AccessError
├── OutOfScope        a command of an author with a scope that leads out of it, or is about what is in no scope
├── PolicyInvalid     a name, a right or a key that cannot be one
├── PolicyExists · PolicyNotFound
├── BuiltInPolicy     the five of the contract cannot be deleted
├── TokenInvalid      a name, a role, a time or a scope that cannot be one
├── TokenExists
└── TokenNotFound
"""


class AccessError(Exception):
    """Any refusal of a command on policies and tokens. None quotes a key."""


class OutOfScope(AccessError):
    """An author with a scope may not take a device out of it or into it, nor change what is in no scope at all."""

    def __init__(self, subject: str, why: str) -> None:
        super().__init__(f"{subject[:140]!r} {why}")
        self.subject, self.why = subject, why


class PolicyInvalid(AccessError):
    """The policy cannot be like this."""

    def __init__(self, policy: str, why: str) -> None:
        super().__init__(f"policy {policy[:80]!r}: {why}")
        self.policy, self.why = policy, why


class PolicyExists(AccessError):
    """A policy of that name is there."""

    def __init__(self, policy: str) -> None:
        super().__init__(f"there is a policy {policy[:80]!r} already")
        self.policy = policy


class PolicyNotFound(AccessError):
    """There is no such policy."""

    def __init__(self, policy: str) -> None:
        super().__init__(f"there is no policy {policy[:80]!r}")
        self.policy = policy


class BuiltInPolicy(AccessError):
    """Clients count on it."""

    def __init__(self, policy: str) -> None:
        super().__init__(f"{policy!r} is built in: change its keys instead of deleting it")
        self.policy = policy


class TokenInvalid(AccessError):
    """The token cannot be like this."""

    def __init__(self, token: str, why: str) -> None:
        super().__init__(f"token {token[:80]!r}: {why}")
        self.token, self.why = token, why


class TokenExists(AccessError):
    """The id is taken; draw another."""

    def __init__(self, token: str) -> None:
        super().__init__(f"there is a token {token[:80]!r} already")
        self.token = token


class TokenNotFound(AccessError):
    """There is no such token, or it was revoked."""

    def __init__(self, token: str) -> None:
        super().__init__(f"there is no token {token[:80]!r}")
        self.token = token
