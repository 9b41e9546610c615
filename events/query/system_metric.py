"""The queries of the system metrics `targetedCount` and `appliedCount`, as IoT Hub returns them (DESIGN §7)."""

from events.query.condition import parse_condition
from events.query.module_condition import EVERY_MODULE, parse_module_condition
from events.query.text import STORED, printed_expression, query_literal
from events.query.tree import MATCH_ALL, MATCH_NONE, both

_ALL = "select deviceId from devices"
_EDGE = f"{_ALL} where capabilities.iotEdge = true"
_MODULES = "select deviceId from devices.modules where {}"


def targeted_query(condition_text: str, scope_text: str = "*", *, own: bool = False) -> str:
    """Return the query for the devices that a deployment targets within a scope; empty if it targets no device.

    An edge deployment targets only edge-capable devices; a configuration of devices' `own` twins targets any.

    Raises:
        ConditionInvalid: the text is not a condition.
    """
    condition = both(parse_condition(condition_text), parse_condition(scope_text))
    if condition == MATCH_NONE:
        return ""
    if condition == MATCH_ALL:
        return _ALL if own else _EDGE
    where = printed_expression(condition, STORED)
    return f"{_ALL} where {where}" if own else f"{_EDGE} and ({where})"


def module_targeted_query(text: str) -> str:
    """Return the query for the modules that a condition for modules selects; empty for a blank condition."""
    return f"select deviceId {text.strip()}" if text.strip() else ""


def module_applied_query(text: str, deployment_id: str) -> str:
    """Return the query for the modules to which a configuration with a condition for modules is applied."""
    status = f"configurations.[[{deployment_id}]].status = 'Applied'"
    module_id = parse_module_condition(text).module_id if text.strip() else EVERY_MODULE
    if module_id == EVERY_MODULE:
        return _MODULES.format(status)
    return _MODULES.format(f"moduleId = {query_literal(module_id)} and {status}")
