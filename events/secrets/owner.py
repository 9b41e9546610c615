"""What secrets belong to. The command line names it before anything that reads secrets is imported."""

import enum


class SecretOwner(enum.Enum):
    """The kinds of owners whose secrets can be erased."""

    DEVICE = "device"
    DEPLOYMENT = "deployment"
    WEBHOOK = "webhook"
