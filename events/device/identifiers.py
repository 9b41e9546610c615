"""Which ids a device and a module may have (contract/hub.md §6)."""

import re

from events.device.errors import DeviceIdInvalid, ModuleIdInvalid

_ID = re.compile(r"[A-Za-z0-9\-:.+%_#*?!(),=@;$']{1,128}")
_RULE = "1 to 128 ASCII letters, digits and - : . + % _ # * ? ! ( ) , = @ ; $ '"
_STEPS = (".", "..")
_STEPS_RULE = "clients leave . and .. out of a path, or read them as the path above; another character has to be in it"

AGENT = "$edgeAgent"
HUB = "$edgeHub"
SYSTEM_MODULES = (AGENT, HUB)
OWN_TWIN = "$device"
"""Stands for the device's own twin where modules are named, as in manifests."""


def check_device_id(device_id: object) -> None:
    """Refuse what cannot be a device id.

    Raises:
        DeviceIdInvalid: names the rule.
    """
    if not isinstance(device_id, str) or not _ID.fullmatch(device_id):
        raise DeviceIdInvalid(str(device_id), _RULE)
    if device_id in _STEPS:
        raise DeviceIdInvalid(device_id, _STEPS_RULE)


def check_module_id(module_id: object) -> None:
    """Refuse what cannot be a module id; of those that begin with `$` only the two system modules exist.

    Raises:
        ModuleIdInvalid: names the rule.
    """
    if not isinstance(module_id, str) or not _ID.fullmatch(module_id):
        raise ModuleIdInvalid(str(module_id), _RULE)
    if module_id in _STEPS:
        raise ModuleIdInvalid(module_id, _STEPS_RULE)
    if module_id.startswith("$") and module_id not in SYSTEM_MODULES:
        raise ModuleIdInvalid(module_id, "ids that begin with $ are for $edgeAgent and $edgeHub")


def module_subject(device_id: str, module_id: str) -> str:
    """`edge1`, `temp` -> `edge1/temp`; neither id holds a slash."""
    return f"{device_id}/{module_id}"
