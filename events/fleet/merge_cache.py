"""What stacks of deployments merge to, once for all partitions of a process."""

from collections.abc import Sequence

from events.fleet.assignments import Layer, stack_key
from events.fleet.configuration import Configuration, ConfigurationOverLimit, effective
from events.fleet.deployments import Deployment


class MergeCache:
    """Effective configurations by stack, shared by the partitions of a process; the oldest are forgotten."""

    def __init__(self, stacks_max: int = 20_000) -> None:
        self._by_stack: dict[tuple[Layer, ...], Configuration | ConfigurationOverLimit] = {}
        self._stacks_max = stacks_max

    def __call__(self, stack: Sequence[Deployment]) -> Configuration | ConfigurationOverLimit:
        """What a stack merges to."""
        key = stack_key(stack)
        configuration = self._by_stack.get(key)
        if configuration is None:
            if len(self._by_stack) >= self._stacks_max:
                del self._by_stack[next(iter(self._by_stack))]
            configuration = self._by_stack[key] = effective(stack)
        return configuration
