"""Limits: how much fits into a device's twins."""

from collections.abc import Iterator

from events.canonical import Json
from events.manifest.create_options import CHUNK_CHARACTERS
from events.manifest.document import AGENT
from events.manifest.merge import MODULES_MAX
from events.manifest.problem import Severity
from events.manifest.shape import shown
from events.properties import DESIRED_BYTES_MAX, size_of
from events.readiness.finding import Hit
from events.readiness.rule import module_rule, rule
from events.readiness.subject import Module, ReadinessSubject

NEAR_PERCENT = 80
CHUNKS_OF_TOOLS = 8

_SOURCE = "seed 003, Be mindful of twin size limits when using custom modules; contract/edge.md §1.1"


@rule(
    "twin-size",
    "The desired properties of every module fit",
    Severity.ERROR,
    reason=f"The hub takes {DESIRED_BYTES_MAX} bytes for each module's desired properties; the agent's hold all modules.",
    remedy="Move settings of modules into their own twins, or to a place that a short property points at.",
    source=_SOURCE,
)
def twin_size(subject: ReadinessSubject) -> Iterator[Hit]:
    """A section above the limit."""
    for twin, section in subject.sections.items():
        if (size := size_of(section)) > DESIRED_BYTES_MAX:
            message = f"desired properties of {shown(twin)} have {size} bytes, more than {DESIRED_BYTES_MAX}"
            yield subject.hit(message, module=twin, twin=twin)


@rule(
    "twin-size-near",
    "The desired properties of every module leave room",
    Severity.WARNING,
    reason="What is almost full does not take the next module or the next layer.",
    remedy="Move settings of modules into their own twins, or to a place that a short property points at.",
    source=_SOURCE,
)
def twin_size_near(subject: ReadinessSubject) -> Iterator[Hit]:
    """A section of more than four fifths of the limit."""
    for twin, section in subject.sections.items():
        size = size_of(section)
        if DESIRED_BYTES_MAX * NEAR_PERCENT < 100 * size <= 100 * DESIRED_BYTES_MAX:
            message = f"desired properties of {shown(twin)} have {size} of {DESIRED_BYTES_MAX} bytes"
            yield subject.hit(message, module=twin, twin=twin)


@rule(
    "modules-max",
    "A device has no more modules than the hub takes",
    Severity.ERROR,
    reason=f"A device has at most {MODULES_MAX} modules.",
    remedy="Put several functions into one module, or use more devices.",
    source=_SOURCE,
)
def modules_max(subject: ReadinessSubject) -> Iterator[Hit]:
    """More modules than that."""
    modules = subject.agent.get("modules")
    if isinstance(modules, dict) and len(modules) > MODULES_MAX:
        message = f"there are {len(modules)} modules, more than {MODULES_MAX}"
        yield subject.hit(message, module=AGENT, twin=AGENT, path=("modules",))


@module_rule(
    "create-options-size",
    "createOptions fit into the chunks that tools write",
    Severity.WARNING,
    reason=f"Tools cut createOptions into at most {CHUNKS_OF_TOOLS} chunks of {CHUNK_CHARACTERS} characters.",
    remedy="Move settings of the module into its own twin.",
    source=_SOURCE,
)
def create_options_size(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """Text that takes more chunks."""
    characters, most = _characters(module), CHUNK_CHARACTERS * CHUNKS_OF_TOOLS
    if characters > most:
        message = f"createOptions of {module.name} have {characters} characters, more than {most}"
        yield subject.options_hit(module, message)


@module_rule(
    "create-options-unchunked",
    "Long createOptions are cut into chunks",
    Severity.INFO,
    fixes=True,
    reason=f"Hubs may keep strings of {CHUNK_CHARACTERS} characters alone; the agent joins what is cut.",
    remedy="Cut the text into createOptions, createOptions01 and so on.",
    source=_SOURCE,
)
def create_options_unchunked(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """A chunk that is longer than one."""
    longest = max((len(value) for value in module.chunks.values() if isinstance(value, str)), default=0)
    if longest > CHUNK_CHARACTERS:
        fix = () if isinstance(module.written_options, Exception) else subject.options_replaced(module, module.options)
        message = (
            f"createOptions of {module.name} have {longest} characters in one string, more than {CHUNK_CHARACTERS}"
        )
        yield subject.options_hit(module, message, fix=() if subject.template else fix)


def _characters(module: Module) -> int:
    chunks: list[Json] = list(module.chunks.values())
    return sum(len(chunk) for chunk in chunks if isinstance(chunk, str))
