"""Errors of commands on policies and tokens.

AccessError
├── OutOfScope        a scoped author's command moves a device out of the scope or into it, or is about what has no scope
├── PolicyInvalid     an invalid name, permission or key
├── PolicyExists · PolicyNotFound
├── BuiltInPolicy     the five of the contract cannot be deleted
├── TokenInvalid      an invalid name, role, time or scope
├── TokenExists
└── TokenNotFound
"""


class AccessError(Exception):
    """A command on policies or tokens was rejected. No message quotes a key."""


class OutOfScope(AccessError):
    """A scoped author may not move a device out of the scope or into it, nor change what has no scope."""

    def __init__(self, subject: str, why: str) -> None:
        super().__init__(f"{subject[:140]!r} {why}")
        self.subject, self.why = subject, why


class PolicyInvalid(AccessError):
    """An element of a policy is invalid; `why` has the rule."""

    def __init__(self, policy: str, why: str) -> None:
        super().__init__(f"policy {policy[:80]!r}: {why}")
        self.policy, self.why = policy, why


class PolicyExists(AccessError):
    """A policy with that name exists."""

    def __init__(self, policy: str) -> None:
        super().__init__(f"there is a policy {policy[:80]!r} already")
        self.policy = policy


class PolicyNotFound(AccessError):
    """No policy has that name."""

    def __init__(self, policy: str) -> None:
        super().__init__(f"there is no policy {policy[:80]!r}")
        self.policy = policy


class BuiltInPolicy(AccessError):
    """A built-in policy cannot be deleted: clients rely on it."""

    def __init__(self, policy: str) -> None:
        super().__init__(f"{policy!r} is built in: change its keys instead of deleting it")
        self.policy = policy


class TokenInvalid(AccessError):
    """An element of a token is invalid; `why` has the rule."""

    def __init__(self, token: str, why: str) -> None:
        super().__init__(f"token {token[:80]!r}: {why}")
        self.token, self.why = token, why


class TokenExists(AccessError):
    """A token with that random id exists; draw another id."""

    def __init__(self, token: str) -> None:
        super().__init__(f"there is a token {token[:80]!r} already")
        self.token = token


class TokenNotFound(AccessError):
    """No token has that id, or it was revoked."""

    def __init__(self, token: str) -> None:
        super().__init__(f"there is no token {token[:80]!r}")
        self.token = token
