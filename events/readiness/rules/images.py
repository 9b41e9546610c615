"""Rules about images: the device can pull them, and a tag keeps its content."""

import re
from collections.abc import Iterator

from events.manifest import image, placeholders
from events.manifest.errors import ImageInvalid
from events.manifest.problem import Severity
from events.manifest.shape import shown
from events.readiness.finding import Hit
from events.readiness.module import Module
from events.readiness.rule import module_rule
from events.readiness.subject import ReadinessSubject

_MODULE_IMAGES = "seed 003, Use correct module images in deployment manifests"
_TAGS = "seed 003, Use tags to manage versions"

# The grammar of the engine's image references. The engine rejects any other text before it contacts a registry.
_component = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_reference = re.compile(
    rf"(?:[A-Za-z0-9$][A-Za-z0-9.-]*(?::[0-9]+)?/)?{_component}(?:/{_component})*(?::\w[\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?"
).fullmatch
_three_numbers = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+").match
_debug = re.compile(r"(?:^|[.:\-_])debug(?:$|[.\-_}])", re.IGNORECASE).search


def _moving_tag(reference: str) -> str | None:
    """Return the tag of a readable reference, empty if it has none; `None` if it names its content by digest."""
    if not readable(reference) or "@sha256:" in reference:
        return None
    return reference.rpartition("/")[2].partition(":")[2]


def readable(reference: str) -> bool:
    """Return whether the agent and the engine accept a reference; one with a placeholder they do not."""
    try:
        image.normalize(reference)
    except ImageInvalid:
        return False
    return not placeholders.at_start(reference) and _reference(reference) is not None


@module_rule("image-empty", Severity.ERROR, source=f"{_MODULE_IMAGES}; contract/edge.md §1.1")
def image_empty(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """Every module has an image.

    The agent retries the pull without end. That causes traffic, and the module never starts.
    Remedy: Set settings.image to the image's full name and tag.
    """
    # A layer alone can change a module without its image, which the base then has.
    written = module.settings.get("image")
    if (isinstance(written, str) and not written.strip()) or (written is None and module.whole):
        yield subject.module_hit(module, f"{module.name} has no image", "settings", "image")


@module_rule("image-format", Severity.ERROR, source=f"{_MODULE_IMAGES}; contract/edge.md §1.1, §7.3")
def image_format(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """Every image reference is valid.

    The agent rejects a reference with two tags. The engine rejects upper-case letters and spaces in the name.
    Remedy: Write registry/name:tag with the name in lower case, or registry/name@sha256:digest.
    """
    if module.image and not placeholders.at_start(module.image) and not readable(module.image):
        message = f"{shown(module.image)!r} of {module.name} is not a valid image reference"
        yield subject.module_hit(module, message, "settings", "image")


@module_rule("image-placeholder", Severity.ERROR, source=_MODULE_IMAGES)
def image_placeholder(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """No image has a placeholder.

    Placeholders are not replaced after the deployment, so the pull fails on the device.
    Remedy: Deploy the manifest that the build generates from the template.
    """
    if not subject.template and (names := placeholders.at_start(module.image)):
        message = f"the image of {module.name} has the placeholder {', '.join(map(shown, names))}"
        yield subject.module_hit(module, message, "settings", "image")


@module_rule("image-debug", Severity.WARNING, source="seed 003, Don't use debug versions of module images")
def image_debug(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """No image is a debug build.

    Debug builds are larger and slower, and they can open the device to attackers.
    Remedy: Use the image of the release build.
    """
    if _debug(module.image.rpartition("/")[2]):
        message = f"{shown(module.image)!r} of {module.name} is a debug build"
        yield subject.module_hit(module, message, "settings", "image")


@module_rule("tag-missing", Severity.WARNING, source=f"{_TAGS}; contract/edge.md §1.1")
def tag_missing(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """Every image has a tag.

    Without a tag the agent pulls latest, whose content changes with every release.
    Remedy: Add the tag of a version to the image.
    """
    if _moving_tag(module.image) == "":
        message = f"{shown(module.image)!r} of {module.name} has no tag, so the agent pulls latest"
        yield subject.module_hit(module, message, "settings", "image")


@module_rule("tag-latest", Severity.WARNING, source=_TAGS)
def tag_latest(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """No image has the tag latest.

    The tag moves with every push. Devices run different versions, depending on when they pulled, and get no update.
    Remedy: Use a specific tag, and a new tag for each version.
    """
    if _moving_tag(module.image) == "latest":
        message = f"{shown(module.image)!r} of {module.name} has the tag latest"
        yield subject.module_hit(module, message, "settings", "image")


@module_rule("tag-rolling-runtime", Severity.WARNING, source="seed 003, Tags for the IoT Edge runtime")
def tag_rolling_runtime(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """The runtime's images have specific tags.

    A tag of two numbers moves. The runtime then changes with the next pull, without a deployment.
    Remedy: Use a tag of three numbers in production, and change it when you want to update.
    """
    tag = _moving_tag(module.image)
    if module.system and tag and tag != "latest" and not _three_numbers(tag):
        message = f"the tag {shown(tag)} of {module.name} is not a version of three numbers"
        yield subject.module_hit(module, message, "settings", "image")
