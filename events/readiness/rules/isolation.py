"""Rules about isolation: which resources of the host a module can use, and how much of them."""

import re
from collections.abc import Iterator

from events.manifest.document import AGENT, object_of
from events.manifest.problem import Severity
from events.manifest.shape import shown
from events.readiness.finding import Hit
from events.readiness.module import Module, list_of, member, texts
from events.readiness.rule import module_rule, rule
from events.readiness.rules.options import PortBinding, port_bindings
from events.readiness.subject import ReadinessSubject, merged

_DEBUG_PORTS = {
    "2000": "gdb",
    "2159": "gdb",
    "4022": "the .NET debugger over SSH",
    "5005": "the Java debugger",
    "5678": "the Python debugger",
    "9229": "the Node.js inspector",
}
"""Container ports that debuggers use by default."""

_debugger = re.compile(r"--inspect(?:-brk)?\b|\bptvsd\b|\bdebugpy\b|\bjdwp\b|\bvsdbg\b|\bgdbserver\b").search

_HOST = "seed 003, Limit container access to host resources"
_ANY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104 - compared with manifests, not bound
_SYSTEM = ("/", "/boot", "/dev", "/etc", "/proc", "/root", "/sys", "/usr", "/var", "/var/lib/aziot", "/var/lib/docker")


@module_rule("debug-ports", Severity.WARNING, source="seed 003, Don't use debug versions of module images")
def debug_ports(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """No module starts a debugger.

    Anyone who reaches a debugger's port can run code in the module.
    Remedy: Remove the port from ExposedPorts and PortBindings, and the debugger from Cmd and Entrypoint.
    """
    bindings, exposed = member(module.host_config, "PortBindings"), member(module.options, "ExposedPorts")
    for port in dict.fromkeys(port.partition("/")[0] for port in (*object_of(bindings), *object_of(exposed))):
        if port in _DEBUG_PORTS:
            message = f"{module.name} opens port {port}, the default port of {_DEBUG_PORTS[port]}"
            yield subject.options_hit(module, message, detail=port)
    for name in ("Cmd", "Entrypoint"):
        words = member(module.options, name)
        command = words if isinstance(words, str) else " ".join(texts(words))
        if match := _debugger(command):
            message = f"{name} of {module.name} starts a debugger ({match.group()})"
            yield subject.options_hit(module, message, detail=name)


@rule("host-ports", Severity.ERROR, source="seed 003, Review outbound/inbound configuration; contract/edge.md §7.4")
def host_ports(subject: ReadinessSubject) -> Iterator[Hit]:
    """Every module binds its own ports of the host.

    The engine starts the first of two modules with the same port. The second one fails at every start.
    Remedy: Give each module its own port.
    """
    seen: dict[tuple[str, str], list[tuple[Module, PortBinding]]] = {}
    for module in subject.modules:
        for binding in port_bindings(module):
            previous_bindings = seen.setdefault((binding.host_port, binding.protocol), [])
            other = next((theirs for theirs, bound in previous_bindings if _same_address(bound, binding)), None)
            # The engine chooses a free port for 0.
            if other is not None and other is not module and binding.host_port.isdecimal() and binding.host_port != "0":
                port = f"{shown(binding.host_port)}/{binding.protocol}"
                message = f"{module.name} and {other.name} both bind port {port} of the host"
                yield subject.options_hit(module, message, detail=port)
            previous_bindings.append((module, binding))


@module_rule("host-ports-any-address", Severity.INFO, source="seed 003, Review outbound/inbound configuration")
def host_ports_any_address(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """Every port is bound to one address of the host.

    A port without an address is open to every network of the host.
    Remedy: Set HostIp of the binding, unless clients in several networks use the port.
    """
    ports = sorted({shown(binding.host_port) for binding in port_bindings(module) if binding.host_ip in _ANY_ADDRESS})
    if ports:
        yield subject.options_hit(module, f"{module.name} binds {', '.join(ports)} on every address of the host")


@module_rule("host-network", Severity.WARNING, source=f"{_HOST}; seed 003, Review outbound/inbound configuration")
def host_network(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """No module uses the host's network.

    In the host's network a module can connect to everything that the host can, and bind any port.
    Remedy: Remove NetworkMode, and bind the ports that the module needs.
    """
    if member(module.host_config, "NetworkMode") == "host":
        yield subject.options_hit(module, f"NetworkMode of {module.name} is host")


@module_rule("host-namespaces", Severity.WARNING, source=_HOST)
def host_namespaces(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """No module uses the host's namespaces.

    In the host's namespaces a module can see and disturb all processes of the host.
    Remedy: Remove PidMode, IpcMode, UTSMode and UsernsMode.
    """
    for name in ("PidMode", "IpcMode", "UTSMode", "UsernsMode"):
        if member(module.host_config, name) == "host":
            yield subject.options_hit(module, f"{name} of {module.name} is host", detail=name)


@module_rule("privileged", Severity.WARNING, source=f"{_HOST}; contract/edge.md §3.9")
def privileged(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """No module is privileged.

    A privileged module can do everything that root can do on the host.
    Remedy: Remove Privileged, and add only the capability or device that the module needs.
    """
    if member(module.host_config, "Privileged") is True:
        yield subject.options_hit(module, f"{module.name} is privileged")


@module_rule("cap-add", Severity.WARNING, source=f"{_HOST}; contract/edge.md §3.9")
def cap_add(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """No module adds capabilities.

    Each capability is a part of root's permissions on the host. A device can be configured to drop them.
    Remedy: Remove CapAdd, or grant a waiver that says why the module needs it.
    """
    if added := texts(member(module.host_config, "CapAdd")):
        yield subject.options_hit(module, f"{module.name} adds {', '.join(map(shown, sorted(added)))}")


@module_rule("docker-sock", Severity.WARNING, source=_HOST)
def docker_sock(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """No module mounts the engine's socket.

    A module with the socket can start a privileged container, and so become root on the host.
    Remedy: Remove the mount of docker.sock.
    """
    if any(source.rstrip("/").endswith("docker.sock") for source, _ in _mounts(module)):
        yield subject.options_hit(module, f"{module.name} mounts the engine's socket")


@module_rule("host-bind", Severity.WARNING, source=_HOST)
def host_bind(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """No module mounts system directories of the host.

    A module that can write there can change the host itself.
    Remedy: Bind a directory that is only for this module, or a volume.
    """
    for source in dict.fromkeys(source for source, _ in _mounts(module)):
        if (source.rstrip("/") or "/") in _SYSTEM and source:
            yield subject.options_hit(module, f"{module.name} mounts {shown(source)} of the host", detail=source)


@module_rule("devices", Severity.WARNING, source=_HOST)
def devices(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """No module uses devices of the host.

    Other processes use the host's device too, and not every host in the fleet has it.
    Remedy: If the module is made for this device, grant a waiver that says so.
    """
    for device in list_of(member(module.host_config, "Devices")):
        if isinstance(path := member(device, "PathOnHost"), str):
            yield subject.options_hit(module, f"{module.name} uses the host's device {shown(path)}", detail=path)


@module_rule("res-memory", Severity.WARNING, source=_HOST)
def res_memory(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """Every module has a memory limit.

    Without a limit one module can use all memory of the device, and the kernel then kills other processes.
    Remedy: Measure how much memory the module needs, and set HostConfig.Memory in bytes.
    """
    if _limitable(module) and not member(module.host_config, "Memory"):
        yield subject.options_hit(module, f"{module.name} has no memory limit")


@module_rule("res-cpu", Severity.WARNING, source=_HOST)
def res_cpu(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """Every module has a CPU limit.

    Without a limit one module can use all CPU time of the device.
    Remedy: Set HostConfig.NanoCpus, CpuQuota, CpuShares or CpusetCpus.
    """
    names = ("NanoCpus", "CpuQuota", "CpuShares", "CpusetCpus")
    if _limitable(module) and not any(member(module.host_config, name) for name in names):
        yield subject.options_hit(module, f"{module.name} has no CPU limit")


@rule("volume-renamed", Severity.INFO, source="seed 003, Manage volumes")
def volume_renamed(subject: ReadinessSubject) -> Iterator[Hit]:
    """A layer keeps the volumes of the modules that it changes.

    The agent does not remove volumes. A replaced volume stays on the disk, and the module starts without its data.
    Remedy: Keep the volume's name, or remove the old volume on the devices when its data is no longer needed.
    """
    before = object_of(merged(subject.documents[:-1]).get(AGENT, {}).get("modules"))
    for module in subject.user_modules:
        if not isinstance(previous := before.get(module.name), dict):
            continue
        volumes = _volumes(Module(module.name, module.path, previous, whole=True))
        for target, name in _volumes(module).items():
            if (before_name := volumes.get(target, name)) != name:
                message = f"{module.name} had the volume {shown(before_name)} at {shown(target)} and gets {shown(name)}"
                yield subject.options_hit(module, message, detail=target)


def _same_address(binding: PortBinding, other: PortBinding) -> bool:
    # A binding to all addresses conflicts with a binding to any single address.
    return binding.host_ip == other.host_ip or binding.host_ip in _ANY_ADDRESS or other.host_ip in _ANY_ADDRESS


def _limitable(module: Module) -> bool:
    # The agent and the hub of a device serve all of its modules: a limit that is too low would stop them all.
    return module.whole and not module.system and not isinstance(module.written_options, Exception)


def _mounts(module: Module) -> list[tuple[str, str]]:
    return [(source, at) for source, at in module.mounts if isinstance(source, str) and isinstance(at, str)]


def _volumes(module: Module) -> dict[str, str]:
    # A source without a separator is the name of a volume; any other is a path of the host.
    return {target: source for source, target in _mounts(module) if "/" not in source and "\\" not in source}
