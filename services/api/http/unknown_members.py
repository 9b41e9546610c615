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


def messages_of(members: Mapping[str, object], allowed: Iterable[str]) -> str:
    """The errors for unknown members, at most 20, each with the most similar allowed name, or all; empty for none."""
    names, messages = list(allowed), list[str]()
    for member in [member for member in members if member not in names][:_MEMBERS_NAMED_MAX]:
        name = str(member)[:_SHOWN_CHARACTERS]
        if closest := near(name, names, alike=0.6):
            advice = f"did you mean {closest[0]!r}?"
        else:
            advice = f"allowed are {', '.join(names)}" if names else "no members are allowed here"
        messages.append(f"unknown member {name!r}; {advice}")
    return "; ".join(messages)


def check_members(value: object, kind: type[msgspec.Struct]) -> None:
    """Reject members that a struct, or one inside it, does not have: BodyInvalid with the path, and each of them."""
    for path, message in _unknown(value, _type_of(kind), ""):
        raise BodyInvalid(f"{path}: {message}" if path else message)


async def refuse_members(request: Request) -> None:
    """Reject the body of a route that takes none (BodyInvalid, with each member); `{}` and `null` pass."""
    text = await request.body()
    if not text.strip():
        return
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BodyInvalid("this request takes no body") from error
    if value:
        raise BodyInvalid(messages_of(value, ()) if isinstance(value, dict) else "this request takes no body")


_type_of = functools.cache(inspect.type_info)


def _unknown(value: object, kind: inspect.Type, path: str) -> Iterator[tuple[str, str]]:
    match kind:
        case inspect.StructType() if isinstance(value, dict):
            # Of a union the alternative whose tag the object has; a wrong tag is an error of decoding the value.
            if kind.tag_field is not None and value.get(kind.tag_field) != kind.tag:
                return
            fields = {field.encode_name: field.type for field in kind.fields}
            tag = () if kind.tag_field is None else (kind.tag_field,)
            if message := messages_of(value, (*tag, *fields)):
                yield path, message
            for member, item in value.items():
                if member in fields:
                    yield from _unknown(item, fields[member], f"{path}.{member}" if path else member)
        case inspect.UnionType(types=types):
            for alternative in types:
                yield from _unknown(value, alternative, path)
        case inspect.ListType(item_type=item_type) | inspect.VarTupleType(item_type=item_type):
            for index, item in enumerate(value if isinstance(value, list) else ()):
                yield from _unknown(item, item_type, f"{path}[{index}]")
        case _:
            return
