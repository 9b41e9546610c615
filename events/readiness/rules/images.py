"""Images: that they can be pulled, and that they stay what they are."""

import re
from collections.abc import Iterator

from events.manifest import image, placeholders
from events.manifest.errors import ImageInvalid
from events.manifest.problem import Severity
from events.manifest.shape import shown
from events.readiness.finding import Hit
from events.readiness.rule import module_rule
from events.readiness.subject import Module, ReadinessSubject

_MODULE_IMAGES = "seed 003, Use correct module images in deployment manifests"
_TAGS = "seed 003, Use tags to manage versions"

# The grammar of the engine's references: what it refuses, no registry is asked about.
_component = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_reference = re.compile(
    rf"(?:[A-Za-z0-9$][A-Za-z0-9.-]*(?::[0-9]+)?/)?{_component}(?:/{_component})*(?::\w[\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?"
).fullmatch
_three_numbers = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+").match
_debug = re.compile(r"(?:^|[.:\-_])debug(?:$|[.\-_}])", re.IGNORECASE).search


def tag_of(reference: str) -> str:
    """The tag of a reference; empty if it has none."""
    return reference.partition("@")[0].rpartition("/")[2].partition(":")[2]


def pinned(reference: str) -> bool:
    """Whether a reference names content by its digest."""
    return "@sha256:" in reference


def is_open(reference: str) -> bool:
    """Whether a reference is still to be filled in."""
    return bool(placeholders.at_start(reference))


def readable(reference: str) -> bool:
    """Whether a reference is one that agent and engine take, nothing in it left open."""
    if is_open(reference):
        return False
    try:
        image.normalize(reference)
    except ImageInvalid:
        return False
    return _reference(reference) is not None


@module_rule(
    "image-empty",
    "Every module has an image",
    Severity.ERROR,
    reason="The agent tries again and again to pull what has no name, which makes traffic and no module.",
    remedy="Give settings.image the image's full name and tag.",
    source=f"{_MODULE_IMAGES}; contract/edge.md §1.1",
)
def image_empty(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """An image that is missing or blank."""
    written = module.settings.get("image")
    if (isinstance(written, str) and not written.strip()) or (written is None and module.whole):
        yield subject.module_hit(module, f"{module.name} has no image", "settings", "image")


@module_rule(
    "image-format",
    "Every image is a reference that the agent and the engine can read",
    Severity.ERROR,
    reason="The agent refuses a name with two tags, and the engine one with upper case letters or spaces.",
    remedy="Write registry/name:tag, the name in lower case; leave the tag out where a digest is given.",
    source=f"{_MODULE_IMAGES}; contract/edge.md §1.1, §7.3",
)
def image_format(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """An image that is no reference."""
    if module.image and not is_open(module.image) and not readable(module.image):
        message = f"{shown(module.image)!r} of {module.name} is no image reference"
        yield subject.module_hit(module, message, "settings", "image")


@module_rule(
    "image-placeholder",
    "No image is left to be filled in",
    Severity.ERROR,
    reason="Nobody fills in a placeholder of a manifest that is deployed; the pull fails on the device.",
    remedy="Deploy what the build makes of the template, with names in place of placeholders.",
    source=_MODULE_IMAGES,
)
def image_placeholder(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """A placeholder in an image, outside of templates."""
    if not subject.template and (names := placeholders.at_start(module.image)):
        listed = ", ".join(map(shown, names))
        yield subject.module_hit(module, f"the image of {module.name} holds {listed}", "settings", "image")


@module_rule(
    "image-debug",
    "No image is a debug version",
    Severity.WARNING,
    reason="Debug versions are larger and slower, and open ways in.",
    remedy="Name the image that the release build made.",
    source="seed 003, Don't use debug versions of module images",
)
def image_debug(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """A name or tag that says debug."""
    if _debug(module.image.rpartition("/")[2]):
        message = f"{shown(module.image)!r} of {module.name} is a debug version"
        yield subject.module_hit(module, message, "settings", "image")


@module_rule(
    "tag-missing",
    "Every image has a tag",
    Severity.WARNING,
    reason="Without a tag the agent asks for latest, which is another image from one day to the next.",
    remedy="Add the version's tag to the image.",
    source=f"{_TAGS}; contract/edge.md §1.1",
)
def tag_missing(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """A reference without tag and digest."""
    if readable(module.image) and not tag_of(module.image) and not pinned(module.image):
        message = f"{shown(module.image)!r} of {module.name} has no tag, so latest is pulled"
        yield subject.module_hit(module, message, "settings", "image")


@module_rule(
    "tag-latest",
    "No image has the tag latest",
    Severity.WARNING,
    reason="The tag moves with every push: what a device runs depends on when it pulled, and no update is told.",
    remedy="Use a specific tag, and a new one for each version.",
    source=_TAGS,
)
def tag_latest(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """The tag `latest`."""
    if readable(module.image) and tag_of(module.image) == "latest" and not pinned(module.image):
        message = f"{shown(module.image)!r} of {module.name} has the tag latest"
        yield subject.module_hit(module, message, "settings", "image")


@module_rule(
    "tag-rolling-runtime",
    "The runtime's images have specific tags",
    Severity.WARNING,
    reason="A tag of two numbers rolls: the runtime changes when the image is pulled again, without a deployment.",
    remedy="Use a tag of three numbers in production, and raise it when you are ready.",
    source="seed 003, Tags for the IoT Edge runtime",
)
def tag_rolling_runtime(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """A system module whose tag has fewer than three numbers."""
    tag = tag_of(module.image)
    rolls = readable(module.image) and not pinned(module.image) and not _three_numbers(tag)
    if module.system and rolls and tag not in ("", "latest"):
        message = f"the tag {shown(tag)} of {module.name} is no version of three numbers"
        yield subject.module_hit(module, message, "settings", "image")
