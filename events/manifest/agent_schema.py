"""The rules for `$edgeAgent` (contract/hub.md §3.1, contract/edge.md §1.1), for schema versions 1.0 and 1.1."""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache, partial

from events.canonical import Json, JsonObject
from events.manifest import create_options, image, placeholders
from events.manifest.errors import ManifestPartInvalid
from events.manifest.problem import Problem
from events.manifest.shape import Checked, Fields, Integer, NamedMembers, Scalar, Shape, Text, join, refusal, shown

_NEWEST = (1, 1, 0)

RESTART_POLICIES = ("never", "on-failure", "on-unhealthy", "always")
_DOCKER = Text(one_of=("docker",), strict=True)
_version = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})(?:\.([0-9]{1,9}))?")


def shape(minor: int) -> Shape:
    """Return the shape of the section in a standard deployment of schema version 1.`minor`."""
    required = ("schemaVersion", "runtime", "systemModules", "modules")
    return Fields(_members(minor), required, closed=minor > 0)


def layer_shape() -> Shape:
    """Return the shape of what a layer can set in the section: all but the system modules (seed 002)."""
    return Fields({**_members(1), "systemModules": Checked(_forbid_system_modules)}, closed=True)


def minor_of(version: object) -> int | None:
    """Return the minor number of a schema version that the agent accepts, 1.0 to 1.1.0; `None` for any other."""
    parts = parts_of(version)
    return parts[1] if parts is not None and parts[0] == _NEWEST[0] and parts <= _NEWEST else None


def parts_of(version: object) -> tuple[int, int, int] | None:
    """Return the numbers of `major.minor[.build]`; `None` for text in another form."""
    match = _version.fullmatch(version) if isinstance(version, str) else None
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


def key_pattern(minor: int) -> str:
    """Return the pattern of names of routes and registries in schema version 1.`minor`."""
    return r"[^.$# ]+" if minor else r".+"


@lru_cache(maxsize=2)
def _members(minor: int) -> dict[str, Shape]:
    # The schema of version 1.0 allows unknown members; from 1.1 on it has additionalProperties: false.
    fields = partial(Fields, closed=minor > 0)
    settings = fields(
        {"image": Text(strict=True, open_names=placeholders.at_start, also=_check_image)},
        ("image",),
        pattern_members=((r"(?:createoptions|createOptions)[0-9]*", Text(open_names=placeholders.variables)),),
        also=_check_create_options,
    )
    container: dict[str, Shape] = {
        "type": _DOCKER,
        "settings": settings,
        "env": NamedMembers("an environment variable", r"[^+#$\s.]+", fields({"value": Scalar()}, ("value",))),
        "imagePullPolicy": Text(one_of=("never", "on-create"), strict=True),
    }
    running: dict[str, Shape] = {
        **container,
        "status": Text(one_of=("running", "stopped"), strict=True),
        "restartPolicy": Text(one_of=RESTART_POLICIES, strict=True),
        "startupOrder": Integer(0, 2**32 - 1),
    }
    required = ("type", "status", "restartPolicy", "settings")
    # The agent is always running, so it has no status and no policies.
    system = {"edgeAgent": fields(container, ("type", "settings")), "edgeHub": fields(running, required)}
    return {
        "schemaVersion": Text(strict=True, also=_check_version),
        "runtime": _runtime(fields, key_pattern(minor)),
        "systemModules": Fields(system, tuple(system), closed=True),
        "modules": NamedMembers("a module", r"[a-zA-Z0-9_-]+", fields({**running, "version": Text()}, required)),
    }


def _runtime(fields: Callable[..., Fields], credential_name: str) -> Shape:
    credential: dict[str, Shape] = {
        "username": Text(also=_check_not_blank),
        "password": Text(secret=True, open_names=placeholders.of_secret, also=_check_not_blank),
        "address": Text(strict=True, open_names=placeholders.at_start, pattern=r"\S+"),
    }
    settings = {
        "minDockerVersion": Text(),
        "loggingOptions": Text(),
        "registryCredentials": NamedMembers("a registry", credential_name, fields(credential, tuple(credential))),
    }
    return fields({"type": _DOCKER, "settings": fields(settings)}, ("type", "settings"))


def _forbid_system_modules(_value: Json, path: str) -> Iterator[Problem]:
    message = "a layer cannot set the system modules; only a standard deployment has them"
    yield Problem(path, "layer-system-modules", message)


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
        return  # the shape already reports this
    try:
        create_options.parse(create_options.join(chunks))
    except ManifestPartInvalid as error:
        yield Problem(join(path, "createOptions"), "create-options", refusal(error))
