"""Unknown members of a body: under `/v1` they are rejected, each with the most similar allowed name."""

import functools
from collections.abc import Iterable, Iterator, Mapping

import msgspec
from fastapi import Request
from msgspec import inspect

from services.api.http.errors import BodyInvalid
from services.api.http.similar_names import near

_SHOWN_CHARACTERS = 60
_MEMBERS_NAMED_MAX = 20


def message_of(member: object, allowed: Iterable[str]) -> str:
    """The error for a member, with the most similar allowed name, or with all allowed names if none is similar."""
    names = list(allowed)
    text = f"unknown member {str(member)[:_SHOWN_CHARACTERS]!r}"
    if closest := near(str(member)[:_SHOWN_CHARACTERS], names, alike=0.6):
        return f"{text}; did you mean {closest[0]!r}?"
    return f"{text}; allowed are {', '.join(names)}" if names else f"{text}; no members are allowed here"


def messages_of(members: Mapping[str, object], allowed: Iterable[str]) -> str:
    """The errors for the unknown members of an object, at most 20; empty if there are none."""
    names = list(allowed)
    unknown = [member for member in members if member not in names]
    return "; ".join(message_of(member, names) for member in unknown[:_MEMBERS_NAMED_MAX])


def check_members(value: object, kind: type[msgspec.Struct]) -> None:
    """Reject members that a struct, or a struct inside it, does not have.

    Raises:
        BodyInvalid: names the path of the first object with such members, and each of them.
    """
    for path, message in _unknown(value, _type_of(kind), ""):
        raise BodyInvalid(f"{path}: {message}" if path else message)


async def refuse_members(request: Request) -> None:
    """Reject the body of a route that takes none; `{}` and `null` pass.

    Raises:
        BodyInvalid: names each member, or says that the request takes no body.
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
    """The unknown members by the alternative whose tag the object has; a wrong tag is an error of decoding the value."""
    for alternative in types:
        if not isinstance(alternative, inspect.StructType) or _carries_tag(value, alternative):
            yield from _unknown(value, alternative, path)


def _carries_tag(value: object, kind: inspect.StructType) -> bool:
    return isinstance(value, dict) and (kind.tag_field is None or value.get(kind.tag_field) == kind.tag)
