"""The valid ids of devices and modules (contract/hub.md §6)."""

import re

from events.device.errors import DeviceIdInvalid, ModuleIdInvalid

_ID = re.compile(r"[A-Za-z0-9\-:.+%_#*?!(),=@;$']{1,128}")
_RULE = "1 to 128 ASCII letters, digits and - : . + % _ # * ? ! ( ) , = @ ; $ '"
_PATH_STEPS = (".", "..")
_PATH_STEPS_RULE = "`.` and `..` are not allowed, because HTTP clients remove them from a path; add another character"

AGENT = "$edgeAgent"
HUB = "$edgeHub"
SYSTEM_MODULES = (AGENT, HUB)
OWN_TWIN = "$device"
"""The name of the device's own twin in lists of modules, as in manifests."""


def check_device_id(device_id: object) -> None:
    """Refuse an invalid device id.

    Raises:
        DeviceIdInvalid: names the rule.
    """
    if not isinstance(device_id, str) or not _ID.fullmatch(device_id):
        raise DeviceIdInvalid(str(device_id), _RULE)
    if device_id in _PATH_STEPS:
        raise DeviceIdInvalid(device_id, _PATH_STEPS_RULE)


def check_module_id(module_id: object) -> None:
    """Refuse an invalid module id.

    Raises:
        ModuleIdInvalid: names the rule.
    """
    if not isinstance(module_id, str) or not _ID.fullmatch(module_id):
        raise ModuleIdInvalid(str(module_id), _RULE)
    if module_id in _PATH_STEPS:
        raise ModuleIdInvalid(module_id, _PATH_STEPS_RULE)
    if module_id.startswith("$") and module_id not in SYSTEM_MODULES:
        raise ModuleIdInvalid(module_id, "only $edgeAgent and $edgeHub begin with $")


def module_subject(device_id: str, module_id: str) -> str:
    """Returns a module's subject: `edge1`, `temp` -> `edge1/temp`; ids have no slash."""
    return f"{device_id}/{module_id}"
