"""Rules about limits: how much fits into a device's twins."""

from collections.abc import Iterator

from events.manifest.create_options import CHUNK_CHARACTERS
from events.manifest.document import AGENT, object_of
from events.manifest.merge import MODULES_MAX
from events.manifest.problem import Severity
from events.manifest.shape import shown
from events.properties import DESIRED_BYTES_MAX, size_of
from events.readiness.finding import Hit
from events.readiness.module import Module
from events.readiness.rule import module_rule, rule
from events.readiness.subject import ReadinessSubject

NEAR_PERCENT = 80
CHUNKS_OF_TOOLS = 8

_SOURCE = "seed 003, Be mindful of twin size limits when using custom modules; contract/edge.md §1.1"


@rule("twin-size", Severity.ERROR, source=_SOURCE, desired_bytes_max=DESIRED_BYTES_MAX)
def twin_size(subject: ReadinessSubject) -> Iterator[Hit]:
    """The desired properties of every module are within the size limit.

    The hub accepts {desired_bytes_max} bytes of desired properties per module. Those of the agent contain all modules.
    Remedy: Move settings of modules into their own twins, or store them elsewhere and reference them by a short property.
    """
    for twin, section in subject.sections.items():
        if (size := size_of(section)) > DESIRED_BYTES_MAX:
            message = f"desired properties of {shown(twin)} have {size} bytes, more than {DESIRED_BYTES_MAX}"
            yield subject.hit(message, twin)


@rule("twin-size-near", Severity.WARNING, source=_SOURCE)
def twin_size_near(subject: ReadinessSubject) -> Iterator[Hit]:
    """The desired properties of every module are below 80 % of the size limit.

    With little space left, the next module or layer does not fit.
    Remedy: Move settings of modules into their own twins, or store them elsewhere and reference them by a short property.
    """
    for twin, section in subject.sections.items():
        size = size_of(section)
        if DESIRED_BYTES_MAX * NEAR_PERCENT < 100 * size <= 100 * DESIRED_BYTES_MAX:
            message = f"desired properties of {shown(twin)} have {size} of {DESIRED_BYTES_MAX} bytes"
            yield subject.hit(message, twin)


@rule("modules-max", Severity.ERROR, source=_SOURCE, modules_max=MODULES_MAX)
def modules_max(subject: ReadinessSubject) -> Iterator[Hit]:
    """A device has no more modules than IoT Hub allows.

    IoT Hub accepts at most {modules_max} modules in a deployment. A merge of deployments with more is not applied.
    Remedy: Combine modules, or use more devices.
    """
    modules = object_of(subject.agent.get("modules"))
    if len(modules) > MODULES_MAX:
        message = f"there are {len(modules)} modules, more than {MODULES_MAX}"
        yield subject.hit(message, AGENT, ("modules",))


@module_rule(
    "create-options-size",
    Severity.WARNING,
    source=_SOURCE,
    chunks_of_tools=CHUNKS_OF_TOOLS,
    chunk_characters=CHUNK_CHARACTERS,
)
def create_options_size(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """The createOptions fit into the chunks that tools can write.

    Tools split createOptions into at most {chunks_of_tools} chunks of {chunk_characters} characters.
    Remedy: Move settings of the module into its twin.
    """
    characters = sum(len(chunk) for chunk in module.chunks.values() if isinstance(chunk, str))
    limit = CHUNK_CHARACTERS * CHUNKS_OF_TOOLS
    if characters > limit:
        message = f"createOptions of {module.name} have {characters} characters, more than {limit}"
        yield subject.options_hit(module, message)


@module_rule("create-options-unchunked", Severity.INFO, fixes=True, source=_SOURCE, chunk_characters=CHUNK_CHARACTERS)
def create_options_unchunked(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """Long createOptions are split into chunks.

    A hub may reject strings of more than {chunk_characters} characters. The agent joins the chunks.
    Remedy: Split the text into createOptions, createOptions01 and so on.
    """
    longest = max((len(value) for value in module.chunks.values() if isinstance(value, str)), default=0)
    if longest > CHUNK_CHARACTERS:
        fix = () if isinstance(module.written_options, Exception) else subject.options_replaced(module, module.options)
        message = (
            f"createOptions of {module.name} have {longest} characters in one string, more than {CHUNK_CHARACTERS}"
        )
        yield subject.options_hit(module, message, fix=() if subject.template else fix)
