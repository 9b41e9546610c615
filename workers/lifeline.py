"""A child that ends when its parent does, even when the parent is killed with -9."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

SUPERVISED = "TWINFOLD_SUPERVISED"
"""Set for the children of the pool."""


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies; where it cannot be asked (not Linux), the sweep's worker goes on."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == 1 and os.environ.get(SUPERVISED):
        os.kill(os.getpid(), signal.SIGTERM)
