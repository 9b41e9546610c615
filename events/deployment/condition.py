"""Checks of target conditions, whose form depends on the kind of the deployment's content."""

from events.manifest.document import ContentKind
from events.query.condition import parse_condition
from events.query.errors import ConditionInvalid
from events.query.module_condition import is_module_condition, parse_module_condition


def check_condition(text: str, kind: ContentKind) -> None:
    """Refuse a condition that a deployment of a kind cannot have. Any can have blank text, which targets no device.

    Raises:
        ConditionInvalid: it is invalid, or a condition for another kind.
    """
    if kind is ContentKind.MODULE and text.strip():
        parse_module_condition(text)
    elif is_module_condition(text):
        reason = "a condition FROM devices.modules is only for configurations with moduleContent"
        raise ConditionInvalid(text, column=1, reason=reason)
    else:
        parse_condition(text)


def check_any_condition(text: str) -> None:
    """Refuse a text that is not a condition for any kind.

    Raises:
        ConditionInvalid: with the reason.
    """
    check_condition(text, ContentKind.MODULE if is_module_condition(text) else ContentKind.EDGE)
