"""The rules for `$edgeAgent` (contract/hub.md §3.1, contract/edge.md §1.1), for schema versions 1.0 and 1.1."""

import re
from collections.abc import Iterator
from functools import lru_cache

from events.canonical import JsonObject
from events.manifest import create_options, image, placeholders
from events.manifest.errors import ManifestPartInvalid
from events.manifest.problem import Problem
from events.manifest.shape import (
    Fields,
    ForbiddenMember,
    Integer,
    NamedMembers,
    Scalar,
    Shape,
    Text,
    join,
    refusal,
    shown,
)

STARTUP_ORDER_MAX = 2**32 - 1
NEWEST = (1, 1, 0)

_TYPES = ("docker",)
_STATUSES = ("running", "stopped")
_RESTART_POLICIES = ("never", "on-failure", "on-unhealthy", "always")
_PULL_POLICIES = ("never", "on-create")
_MODULE_NAME = r"[a-zA-Z0-9_-]+"
_ENV_NAME = r"[^+#$\s.]+"
_CREDENTIAL_NAME = {0: r".+", 1: r"[^.$# ]+"}
_CHUNK = r"(?:createoptions|createOptions)[0-9]*"
_version = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})(?:\.([0-9]{1,9}))?")


def shape(minor: int) -> Shape:
    """The section as a standard deployment sets it, under schema version 1.`minor`."""
    required = ("schemaVersion", "runtime", "systemModules", "modules")
    return Fields(_members(minor), required, closed=minor > 0)


def layer_shape() -> Shape:
    """What a layer may set in the section: everything but the system modules (seed 002)."""
    message = "a layer cannot set the system modules; only a standard deployment has them"
    return Fields({**_members(1), "systemModules": ForbiddenMember("layer-system-modules", message)}, closed=True)


def minor_of(version: object) -> int | None:
    """The minor number of a schema version that the agent accepts, 1.0 to 1.1.0; `None` for any other."""
    parts = parts_of(version)
    return parts[1] if parts is not None and parts[0] == NEWEST[0] and parts <= NEWEST else None


def parts_of(version: object) -> tuple[int, int, int] | None:
    """major.minor[.build] as numbers; `None` when it is not written so."""
    match = _version.fullmatch(version) if isinstance(version, str) else None
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


@lru_cache(maxsize=2)
def _members(minor: int) -> dict[str, Shape]:
    closed = minor > 0
    docker = Text(one_of=_TYPES, strict=True)
    settings = Fields(
        {"image": Text(strict=True, open_names=placeholders.at_start, also=_check_image)},
        ("image",),
        closed=closed,
        others=((_CHUNK, Text(open_names=placeholders.variables)),),
        also=_check_create_options,
    )
    env = NamedMembers("an environment variable", _ENV_NAME, Fields({"value": Scalar()}, ("value",), closed=closed))
    plain: dict[str, Shape] = {
        "type": docker,
        "settings": settings,
        "env": env,
        "imagePullPolicy": Text(one_of=_PULL_POLICIES, strict=True),
    }
    hub_members: dict[str, Shape] = {
        **plain,
        "status": Text(one_of=_STATUSES, strict=True),
        "restartPolicy": Text(one_of=_RESTART_POLICIES, strict=True),
        "startupOrder": Integer(0, STARTUP_ORDER_MAX),
    }
    required = ("type", "status", "restartPolicy", "settings")
    module = Fields({**hub_members, "version": Text()}, required, closed=closed)
    credential = Fields(
        {
            "username": Text(also=_check_not_blank),
            "password": Text(secret=True, open_names=placeholders.of_secret, also=_check_not_blank),
            "address": Text(strict=True, open_names=placeholders.at_start, pattern=r"\S+"),
        },
        ("username", "password", "address"),
        closed=closed,
    )
    runtime = Fields(
        {
            "type": docker,
            "settings": Fields(
                {
                    "minDockerVersion": Text(),
                    "loggingOptions": Text(),
                    "registryCredentials": NamedMembers("a registry", _CREDENTIAL_NAME[minor], credential),
                },
                closed=closed,
            ),
        },
        ("type", "settings"),
        closed=closed,
    )
    system = Fields(
        {
            "edgeAgent": Fields(plain, ("type", "settings"), closed=closed),
            "edgeHub": Fields(hub_members, required, closed=closed),
        },
        ("edgeAgent", "edgeHub"),
        closed=True,
    )
    members: dict[str, Shape] = {
        "schemaVersion": Text(strict=True, also=_check_version),
        "runtime": runtime,
        "systemModules": system,
        "modules": NamedMembers("a module", _MODULE_NAME, module),
    }
    return members


def _check_version(version: str, path: str) -> Iterator[Problem]:
    if minor_of(version) is None:
        yield Problem(path, "schema-version", f"the agent accepts schema versions 1.0 to 1.1, not {shown(version)!r}")


def _check_image(reference: str, path: str) -> Iterator[Problem]:
    try:
        image.normalize(reference)
    except ManifestPartInvalid as error:
        yield Problem(path, "image", refusal(error))


def _check_not_blank(text: str, path: str) -> Iterator[Problem]:
    if not text.strip():
        yield Problem(path, "blank", "must not be blank")


def _check_create_options(settings: JsonObject, path: str) -> Iterator[Problem]:
    chunks = {key: chunk for key, chunk in settings.items() if create_options.is_chunk(key)}
    if not all(isinstance(chunk, str) for chunk in chunks.values()):
        return  # the shape has said so already
    try:
        create_options.parse(create_options.join(chunks))
    except ManifestPartInvalid as error:
        yield Problem(join(path, "createOptions"), "create-options", refusal(error))
