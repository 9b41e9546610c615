"""The processes that `up` keeps alive, by their modules, and how they are ended in order."""

import sys
from collections.abc import Callable, Mapping, Sequence

from events.processes.child import Child
from events.processes.supervised import Continued, Ended, Supervised

STOP_SECONDS_MAX = 20.0


def role(
    name: str, module: str, environment: Mapping[str, str], *, keeps: Sequence[int], say: Callable[[str], None]
) -> Supervised:
    """Start a role, to be tended; one that ends at once every time is given up."""

    def tell(change: Ended | Continued) -> None:
        say(f"{name} {change}")

    return Supervised(
        name, lambda: Child([sys.executable, "-m", module], environment, keeps=keeps), tell=tell, gives_up=True
    )


def stop(roles: Sequence[Supervised]) -> None:
    """End roles, the last one first."""
    for one in reversed(roles):
        one.terminate()
        one.end(STOP_SECONDS_MAX)
