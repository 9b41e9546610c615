"""Members of a body that are not known: under `/v1` they are refused, each with the known name that is spelled most like it."""

import functools
from collections.abc import Iterable, Iterator, Mapping

import msgspec
from fastapi import Request
from msgspec import inspect

from services.api.http.errors import BodyInvalid
from services.api.http.similar_names import near

_SHOWN_CHARACTERS = 60
_MEMBERS_NAMED_MAX = 20


def message_of(member: object, known: Iterable[str]) -> str:
    """Why a member is refused, with the known name that is spelled most like it, or with all known names where none is."""
    names = list(known)
    text = f"unknown member {str(member)[:_SHOWN_CHARACTERS]!r}"
    if closest := near(str(member)[:_SHOWN_CHARACTERS], names, alike=0.6):
        return f"{text}; did you mean {closest[0]!r}?"
    return f"{text}; known are {', '.join(names)}" if names else f"{text}; no members are known here"


def messages_of(given: Mapping[str, object], known: Iterable[str]) -> str:
    """`message_of` for each member of an object that is not known; empty where all are."""
    names = list(known)
    unknown = [member for member in given if member not in names]
    return "; ".join(message_of(member, names) for member in unknown[:_MEMBERS_NAMED_MAX])


def check_members(value: object, kind: type[msgspec.Struct]) -> None:
    """Refuse members that a struct, or a struct inside it, does not have.

    Raises:
        BodyInvalid: names the path of the first object with such members, and each of them.
    """
    for path, message in _unknown(value, _type_of(kind), ""):
        raise BodyInvalid(f"{path}: {message}" if path else message)


async def refuse_members(request: Request) -> None:
    """Refuse the members of a body that a route has no use for; no body, `{}` and `null` are let pass.

    Raises:
        BodyInvalid: names each member, or says that there is no body to send.
    """
    text = await request.body()
    if not text.strip():
        return
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BodyInvalid("this request takes no body") from error
    if value:
        raise BodyInvalid(messages_of(value, ()) if isinstance(value, dict) else "this request takes no body")


@functools.cache
def _type_of(kind: type[msgspec.Struct]) -> inspect.Type:
    return inspect.type_info(kind)


def _unknown(value: object, kind: inspect.Type, path: str) -> Iterator[tuple[str, str]]:
    match kind:
        case inspect.StructType() if isinstance(value, dict):
            fields = {field.encode_name: field.type for field in kind.fields}
            tag = () if kind.tag_field is None else (kind.tag_field,)
            if message := messages_of(value, (*tag, *fields)):
                yield path, message
            for member, item in value.items():
                if member in fields:
                    yield from _unknown(item, fields[member], f"{path}.{member}" if path else member)
        case inspect.UnionType(types=types):
            yield from _unknown_of_union(value, types, path)
        case inspect.ListType(item_type=item_type) | inspect.VarTupleType(item_type=item_type):
            for index, item in enumerate(value if isinstance(value, list) else ()):
                yield from _unknown(item, item_type, f"{path}[{index}]")
        case _:
            return


def _unknown_of_union(value: object, types: tuple[inspect.Type, ...], path: str) -> Iterator[tuple[str, str]]:
    """Of alternatives, the one whose tag the object carries; a wrong tag is told by whoever reads the value."""
    for one in types:
        if not isinstance(one, inspect.StructType) or _carries_tag(value, one):
            yield from _unknown(value, one, path)


def _carries_tag(value: object, kind: inspect.StructType) -> bool:
    return isinstance(value, dict) and (kind.tag_field is None or value.get(kind.tag_field) == kind.tag)
