"""Which target conditions a deployment can have: those for modules are written in another way than all others."""

from events.manifest.document import ContentKind
from events.query.condition import parse_condition
from events.query.errors import ConditionInvalid
from events.query.module_condition import is_module_condition, parse_module_condition


def check_condition(text: str, kind: ContentKind) -> None:
    """Refuse a condition that a deployment of a kind cannot have. Blank text, which targets nobody, any can.

    Raises:
        ConditionInvalid: it is none, or that of another kind.
    """
    if kind is ContentKind.MODULE and text.strip():
        parse_module_condition(text)
    elif is_module_condition(text):
        reason = "a condition FROM devices.modules is one of configurations with moduleContent"
        raise ConditionInvalid(text, column=1, reason=reason)
    else:
        parse_condition(text)


def check_any_condition(text: str) -> None:
    """Refuse what is a condition of no kind.

    Raises:
        ConditionInvalid: says why not.
    """
    check_condition(text, ContentKind.MODULE if is_module_condition(text) else ContentKind.EDGE)
