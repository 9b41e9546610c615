"""Isolation: what of its host a module may use, and how much."""

import re
from collections.abc import Iterator

from events.manifest.document import AGENT
from events.manifest.problem import Severity
from events.manifest.shape import shown
from events.readiness.finding import Hit
from events.readiness.rule import module_rule, rule
from events.readiness.rules.options import PortBinding, port_bindings, texts
from events.readiness.subject import Module, ReadinessSubject, member

DEBUG_PORTS = {
    "2000": "gdb",
    "2159": "gdb",
    "4022": "the .NET debugger over SSH",
    "5005": "the Java debugger",
    "5678": "the Python debugger",
    "9229": "the Node.js inspector",
}
"""Ports of containers that debuggers use by custom."""

_debugger = re.compile(r"--inspect(?:-brk)?\b|\bptvsd\b|\bdebugpy\b|\bjdwp\b|\bvsdbg\b|\bgdbserver\b").search

_HOST = "seed 003, Limit container access to host resources"
_ANY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104 - what a manifest says
_SENSITIVE = (
    "/",
    "/boot",
    "/dev",
    "/etc",
    "/proc",
    "/root",
    "/sys",
    "/usr",
    "/var",
    "/var/lib/aziot",
    "/var/lib/docker",
)


@module_rule(
    "debug-ports",
    "No module opens a debugger",
    Severity.WARNING,
    reason="A debugger's port lets whoever reaches it run code in the module.",
    remedy="Remove the port from ExposedPorts and PortBindings, and the debugger from Cmd and Entrypoint.",
    source="seed 003, Don't use debug versions of module images",
)
def debug_ports(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """A port or a command of a debugger."""
    bindings, exposed = member(module.host_config, "PortBindings"), member(module.options, "ExposedPorts")
    ports = [*(bindings if isinstance(bindings, dict) else ()), *(exposed if isinstance(exposed, dict) else ())]
    for port in dict.fromkeys(str(port).partition("/")[0] for port in ports):
        if port in DEBUG_PORTS:
            message = f"{module.name} opens port {port}, by custom {DEBUG_PORTS[port]}"
            yield subject.options_hit(module, message, detail=port)
    for name in ("Cmd", "Entrypoint"):
        words = member(module.options, name)
        command = words if isinstance(words, str) else " ".join(texts(words))
        if match := _debugger(command):
            message = f"{name} of {module.name} starts a debugger ({match.group()})"
            yield subject.options_hit(module, message, detail=name)


@rule(
    "host-ports",
    "No two modules bind the same port of the host",
    Severity.ERROR,
    reason="The engine starts the first of the two; the other one fails again and again.",
    remedy="Give each module a port of its own.",
    source="seed 003, Review outbound/inbound configuration; contract/edge.md §7.4",
)
def host_ports(subject: ReadinessSubject) -> Iterator[Hit]:
    """A port of the host in two modules."""
    seen: dict[tuple[str, str], list[tuple[Module, PortBinding]]] = {}
    for module in subject.modules:
        for binding in port_bindings(module):
            previous_bindings = seen.setdefault((binding.host_port, binding.protocol), [])
            other = next((theirs for theirs, bound in previous_bindings if _same_address(bound, binding)), None)
            if other is not None and other is not module and binding.host_port.isdecimal() and binding.host_port != "0":
                port = f"{shown(binding.host_port)}/{binding.protocol}"
                message = f"{module.name} and {other.name} both bind port {port} of the host"
                yield subject.options_hit(module, message, detail=port)
            previous_bindings.append((module, binding))


@module_rule(
    "host-ports-any-address",
    "Ports are bound to one address of the host",
    Severity.INFO,
    reason="A port without an address is open to every network the host is in.",
    remedy="Give the binding a HostIp, unless clients of several networks use it.",
    source="seed 003, Review outbound/inbound configuration",
)
def host_ports_any_address(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """Bindings to all addresses."""
    ports = sorted({shown(binding.host_port) for binding in port_bindings(module) if binding.host_ip in _ANY_ADDRESS})
    if ports:
        message = f"{module.name} binds {', '.join(ports)} on every address of the host"
        yield subject.options_hit(module, message)


@module_rule(
    "host-network",
    "No module is in the host's own network",
    Severity.WARNING,
    reason="In the host's network a module reaches, and can bind, whatever the host can.",
    remedy="Leave NetworkMode out, and bind the ports that are needed.",
    source=f"{_HOST}; seed 003, Review outbound/inbound configuration",
)
def host_network(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """NetworkMode host."""
    if member(module.host_config, "NetworkMode") == "host":
        yield subject.options_hit(module, f"NetworkMode of {module.name} is host")


@module_rule(
    "host-namespaces",
    "No module shares the host's processes or memory",
    Severity.WARNING,
    reason="In the host's namespaces a module sees, and can disturb, everything that runs there.",
    remedy="Leave PidMode, IpcMode, UTSMode and UsernsMode out.",
    source=_HOST,
)
def host_namespaces(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """A namespace of the host."""
    for name in ("PidMode", "IpcMode", "UTSMode", "UsernsMode"):
        if member(module.host_config, name) == "host":
            yield subject.options_hit(module, f"{name} of {module.name} is host", detail=name)


@module_rule(
    "privileged",
    "No module is privileged",
    Severity.WARNING,
    reason="A privileged module can do whatever the host's root can.",
    remedy="Leave Privileged out, and add the one capability or device that is needed.",
    source=f"{_HOST}; contract/edge.md §3.9",
)
def privileged(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """Privileged true."""
    if member(module.host_config, "Privileged") is True:
        yield subject.options_hit(module, f"{module.name} is privileged")


@module_rule(
    "cap-add",
    "No module has more capabilities than usual",
    Severity.WARNING,
    reason="Each capability is a part of what root may do on the host; devices can be told to drop them.",
    remedy="Leave CapAdd out, or write down in a waiver why it is needed.",
    source=f"{_HOST}; contract/edge.md §3.9",
)
def cap_add(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """Added capabilities."""
    if added := texts(member(module.host_config, "CapAdd")):
        yield subject.options_hit(module, f"{module.name} adds {', '.join(map(shown, sorted(added)))}")


@module_rule(
    "docker-sock",
    "No module has the engine's socket",
    Severity.WARNING,
    reason="Who has the socket can start a privileged container, and so is root on the host.",
    remedy="Remove the mount of docker.sock.",
    source=_HOST,
)
def docker_sock(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """A mount of the engine's socket."""
    if any(source.rstrip("/").endswith("docker.sock") for source in _sources(module)):
        yield subject.options_hit(module, f"{module.name} mounts the engine's socket")


@module_rule(
    "host-bind",
    "No module mounts the host's own directories",
    Severity.WARNING,
    reason="A module that can write there changes the host itself.",
    remedy="Bind a directory made for the module, or a volume.",
    source=_HOST,
)
def host_bind(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """A mount of the root or of a system's directory."""
    for source in dict.fromkeys(_sources(module)):
        if (source.rstrip("/") or "/") in _SENSITIVE and source:
            yield subject.options_hit(module, f"{module.name} mounts {shown(source)} of the host", detail=source)


@module_rule(
    "devices",
    "No module has devices of the host",
    Severity.WARNING,
    reason="A device of the host is shared with whatever else uses it, and is not there on every device of a fleet.",
    remedy="Where the module is made for the device, write that down in a waiver.",
    source=_HOST,
)
def devices(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """Mapped devices."""
    mapped = member(module.host_config, "Devices")
    for device in mapped if isinstance(mapped, list) else ():
        path = member(device, "PathOnHost") if isinstance(device, dict) else None
        if isinstance(path, str):
            yield subject.options_hit(module, f"{module.name} has the host's {shown(path)}", detail=path)


@module_rule(
    "res-memory",
    "The memory of every module is limited",
    Severity.WARNING,
    reason="Without a limit one module can take all of the device's memory, and other processes are killed.",
    remedy="Measure what the module needs, and set HostConfig.Memory in bytes.",
    source=_HOST,
)
def res_memory(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """No limit of memory."""
    if _limitable(module) and not member(module.host_config, "Memory"):
        yield subject.options_hit(module, f"{module.name} has no limit of memory")


@module_rule(
    "res-cpu",
    "The processor time of every module is limited",
    Severity.WARNING,
    reason="Without a limit one module can take all of the device's processor time.",
    remedy="Set HostConfig.NanoCpus, CpuQuota, CpuShares or CpusetCpus.",
    source=_HOST,
)
def res_cpu(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """No limit of processor time."""
    names = ("NanoCpus", "CpuQuota", "CpuShares", "CpusetCpus")
    if _limitable(module) and not any(member(module.host_config, name) for name in names):
        yield subject.options_hit(module, f"{module.name} has no limit of processor time")


@rule(
    "volume-renamed",
    "A layer leaves the volumes of the modules it changes",
    Severity.INFO,
    reason="The agent removes no volumes: one that a module leaves stays on the disk, and its data with it.",
    remedy="Keep the volume's name, or remove the old volume on the devices once its data is not needed.",
    source="seed 003, Manage volumes",
)
def volume_renamed(subject: ReadinessSubject) -> Iterator[Hit]:
    """A directory of a module that had another volume before the last document was laid on."""
    before = subject.sections_before.get(AGENT, {}).get("modules")
    for module in subject.user_modules:
        previous = before.get(module.name) if isinstance(before, dict) else None
        if not isinstance(previous, dict):
            continue
        volumes = _volumes(Module(module.name, module.path, previous, whole=True))
        for target, name in _volumes(module).items():
            if volumes.get(target, name) != name:
                message = f"{module.name} had {shown(volumes[target])} at {shown(target)} and gets {shown(name)}"
                yield subject.options_hit(module, message, detail=target)


def _same_address(binding: PortBinding, other: PortBinding) -> bool:
    return binding.host_ip == other.host_ip or binding.host_ip in _ANY_ADDRESS or other.host_ip in _ANY_ADDRESS


def _limitable(module: Module) -> bool:
    # The agent and the hub of a device serve all of its modules; a limit that is too low stops them all.
    return module.whole and not module.system and not isinstance(module.written_options, Exception)


def _mounts(module: Module) -> list[tuple[str, str]]:
    mounts = member(module.host_config, "Mounts")
    pairs = [tuple(bind.split(":")[:2]) for bind in texts(member(module.host_config, "Binds")) if ":" in bind]
    for mount in mounts if isinstance(mounts, list) else ():
        pair = (member(mount, "Source"), member(mount, "Target")) if isinstance(mount, dict) else ()
        if pair and all(isinstance(part, str) for part in pair):
            pairs.append(pair)
    return [(source, target) for source, target in pairs]


def _sources(module: Module) -> list[str]:
    return [source for source, _ in _mounts(module)]


def _volumes(module: Module) -> dict[str, str]:
    return {target: source for source, target in _mounts(module) if "/" not in source and "\\" not in source}
