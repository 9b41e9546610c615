"""A cache of the effective configurations of stacks, shared by all partitions of a process."""

from collections.abc import Sequence

from events.fleet.assignments import Layer, stack_key
from events.fleet.configuration import Configuration, ConfigurationOverLimit, effective
from events.fleet.deployments import Deployment


class MergeCache:
    """Effective configurations by stack; beyond `stacks_max` the oldest are dropped."""

    # All partitions resolve the same stacks, so each merge is computed once and not once for each partition.
    def __init__(self, stacks_max: int = 20_000) -> None:
        self._by_stack: dict[tuple[Layer, ...], Configuration | ConfigurationOverLimit] = {}
        self._stacks_max = stacks_max

    def __call__(self, stack: Sequence[Deployment]) -> Configuration | ConfigurationOverLimit:
        """The effective configuration of a stack."""
        key = stack_key(stack)
        configuration = self._by_stack.get(key)
        if configuration is None:
            if len(self._by_stack) >= self._stacks_max:
                del self._by_stack[next(iter(self._by_stack))]
            configuration = self._by_stack[key] = effective(stack)
        return configuration
