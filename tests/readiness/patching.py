"""The application of JSON patches (RFC 6902), as the reader of a fix does it."""

import copy
from collections.abc import Iterable

from events.canonical import Json
from events.readiness.pointer import Operation, names_of


def patched(document: Json, operations: Iterable[Operation]) -> Json:
    """A copy of the document with the operations done in their order; members of objects alone are changed.

    Raises:
        LookupError: an operation leads nowhere.
    """
    changed = copy.deepcopy(document)
    for operation in operations:
        above, _, _ = operation.path.rpartition("/")
        (name,) = names_of(operation.path)[-1:]
        holder = value_at(changed, above)
        if not isinstance(holder, dict) or (operation.op in ("remove", "replace") and name not in holder):
            raise LookupError(operation.path)
        if operation.op == "remove":
            del holder[name]
        else:
            holder[name] = copy.deepcopy(operation.value)
    return changed


def value_at(document: Json, path: str) -> Json:
    """The value at a pointer.

    Raises:
        LookupError: there is none.
    """
    for name in names_of(path):
        if isinstance(document, dict):
            document = document[name]
        elif isinstance(document, list) and name.isdecimal():
            document = document[int(name)]
        else:
            raise LookupError(path)
    return document
