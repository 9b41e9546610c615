"""A module of a manifest as the rules read it: its image, environment and createOptions."""

from functools import cached_property

import msgspec

from events.canonical import Json, JsonObject
from events.manifest import create_options
from events.manifest.document import object_of
from events.manifest.errors import CreateOptionsInvalid


class Module(msgspec.Struct, frozen=True, dict=True):
    """A module in the merged sections; `path` is its place in the section of `$edgeAgent`.

    `whole` is false if a layer without its base sets only parts of the module: the base may then have what is missing.
    """

    name: str
    path: tuple[str, ...]
    spec: JsonObject
    whole: bool

    @property
    def system(self) -> bool:
        """Whether it is the agent or the edge hub."""
        return self.path[0] == "systemModules"

    @cached_property
    def settings(self) -> JsonObject:
        """Its image and createOptions; empty if they are not an object."""
        return object_of(self.spec.get("settings"))

    @cached_property
    def image(self) -> str:
        """Its image without surrounding spaces; empty if there is none."""
        image = self.settings.get("image")
        return image.strip() if isinstance(image, str) else ""

    @cached_property
    def env(self) -> dict[str, Json]:
        """Its environment variables by name; variables without a value are skipped."""
        return {
            name: value["value"]
            for name, value in object_of(self.spec.get("env")).items()
            if isinstance(value, dict) and "value" in value
        }

    def variable(self, name: str) -> Json:
        """Return the value of an environment variable, whose name can be in any case; `None` if it is not set."""
        return member(self.env, name)

    def at(self, name: str) -> tuple[str, str]:
        """Return the path in the module at which an environment variable, in any case, is or would be set."""
        return "env", next((key for key in self.env if key.lower() == name.lower()), name)

    @cached_property
    def chunks(self) -> dict[str, Json]:
        """The settings that hold createOptions, in one or several chunks."""
        return {name: value for name, value in self.settings.items() if create_options.is_chunk(name)}

    @cached_property
    def written_options(self) -> JsonObject | CreateOptionsInvalid:
        """Its createOptions, from an object or from text; an error if they cannot be read."""
        chunks = list(self.chunks.values())
        # A template has one object; the build writes it as text.
        if len(chunks) == 1 and isinstance(chunks[0], dict):
            return chunks[0]
        try:
            return create_options.parse(create_options.join(self.chunks))
        except CreateOptionsInvalid as error:
            return error

    @cached_property
    def options(self) -> JsonObject:
        """Its createOptions; empty if they cannot be read."""
        return object_of(self.written_options)

    @cached_property
    def host_config(self) -> JsonObject:
        """The member HostConfig of its createOptions; empty if it is not an object."""
        return object_of(member(self.options, "HostConfig"))

    @cached_property
    def mounts(self) -> list[tuple[Json, Json]]:
        """The (source, target) of each bind and mount."""
        binds = (bind.split(":") for bind in texts(member(self.host_config, "Binds")) if ":" in bind)
        mounts = list_of(member(self.host_config, "Mounts"))
        return [(bind[0], bind[1]) for bind in binds] + [(member(m, "Source"), member(m, "Target")) for m in mounts]


def member(value: Json, name: str) -> Json:
    """Return a member of an object; `None` if it is absent, or if the value is not an object.

    The case of names is ignored, as the engine and the agent do.
    """
    members = object_of(value)
    if name in members:
        return members[name]
    lower_name = name.lower()
    return next((item for key, item in members.items() if key.lower() == lower_name), None)


def list_of(value: Json) -> list[Json]:
    """Return a list unchanged; empty for any other value."""
    return value if isinstance(value, list) else []


def texts(value: Json) -> list[str]:
    """Return the strings of a list; empty for any other value."""
    return [item for item in list_of(value) if isinstance(item, str)]
