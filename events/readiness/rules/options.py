"""createOptions: that the engine takes them, and that they keep a module's logs from filling the disk."""

from collections.abc import Callable, Iterator

import msgspec

from events.canonical import Json, JsonObject
from events.manifest import placeholders
from events.manifest.problem import Severity
from events.manifest.shape import refusal, shown, type_name
from events.readiness.finding import Hit
from events.readiness.rule import module_rule
from events.readiness.subject import Module, ReadinessSubject, member

LOG_OPTIONS = {"max-size": "10m", "max-file": "3"}
"""The limits that the checklist gives as an example."""

_CONTRACT = "contract/edge.md §7.5"
_LOGS = "seed 003, Set up default logging driver"
_MEMORY_BYTES_MIN = 6 * 1024 * 1024
_PORT_MAX = 65_535
_NO_NAME = "createOptions"

_rotating_options = {"max-size", "max-file", "compress", "mode", "max-buffer-size"}
_log_options: dict[str, set[str]] = {
    "local": _rotating_options,
    "json-file": _rotating_options | {"labels", "labels-regex", "env", "env-regex", "tag"},
    "none": set(),
}
_log_drivers = {
    *_log_options,
    *("awslogs", "etwlogs", "fluentd", "gcplogs", "gelf", "journald", "logentries", "splunk", "syslog"),
}

# The members of the engine's API 1.41.
_container_members = {
    *("hostname", "domainname", "user", "attachstdin", "attachstdout", "attachstderr", "exposedports", "tty"),
    *("openstdin", "stdinonce", "env", "cmd", "healthcheck", "argsescaped", "image", "volumes", "workingdir"),
    *("entrypoint", "networkdisabled", "macaddress", "onbuild", "labels", "stopsignal", "stoptimeout", "shell"),
    *("hostconfig", "networkingconfig"),
}
_host_members = {
    *(
        "autoremove",
        "binds",
        "blkiodevicereadbps",
        "blkiodevicereadiops",
        "blkiodevicewritebps",
        "blkiodevicewriteiops",
    ),
    *("blkioweight", "blkioweightdevice", "capadd", "capdrop", "cgroup", "cgroupnsmode", "cgroupparent"),
    *("consolesize", "containeridfile", "cpucount", "cpupercent", "cpuperiod", "cpuquota", "cpurealtimeperiod"),
    *("cpurealtimeruntime", "cpusetcpus", "cpusetmems", "cpushares", "devicecgrouprules", "devicerequests", "devices"),
    *("dns", "dnsoptions", "dnssearch", "extrahosts", "groupadd", "init", "iomaximumbandwidth", "iomaximumiops"),
    *("ipcmode", "isolation", "kernelmemory", "kernelmemorytcp", "links", "logconfig", "maskedpaths", "memory"),
    *("memoryreservation", "memoryswap", "memoryswappiness", "mounts", "nanocpus", "networkmode", "oomkilldisable"),
    *("oomscoreadj", "pidmode", "pidslimit", "portbindings", "privileged", "publishallports", "readonlypaths"),
    *("readonlyrootfs", "restartpolicy", "runtime", "securityopt", "shmsize", "storageopt", "sysctls", "tmpfs"),
    *("ulimits", "usernsmode", "utsmode", "volumedriver", "volumesfrom"),
}


@module_rule(
    "create-options-json",
    "createOptions are JSON",
    Severity.ERROR,
    reason="The agent cannot make a container of text that is no JSON object, and reports status 400 for all of the deployment.",
    remedy="Write a JSON object as text; tools make it from an object in a template.",
    source="contract/edge.md §1.1",
)
def create_options_json(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """Text that is no JSON object."""
    error = module.written_options
    if isinstance(error, Exception) and not _chunks_wrong(module) and not _open(module):
        yield subject.options_hit(module, f"{module.name}: {refusal(error)}")


@module_rule(
    "create-options-chunks",
    "The chunks of createOptions follow each other",
    Severity.ERROR,
    reason="The agent joins createOptions, createOptions01, … and stops at the first that is missing.",
    remedy="Number the chunks from 01 without a gap.",
    source="contract/edge.md §1.1, createOptions chunking",
)
def create_options_chunks(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """A chunk that is missing, doubled, or no text."""
    error = module.written_options
    if isinstance(error, Exception) and _chunks_wrong(module):
        yield subject.options_hit(module, f"{module.name}: {refusal(error)}")


@module_rule(
    "create-options-object",
    "createOptions are text",
    Severity.ERROR,
    fixes=True,
    reason="The schema of manifests takes text alone; an object is what templates have.",
    remedy="Deploy what the build makes of the template, or write the object as text.",
    source="contract/edge.md §1.1",
)
def create_options_object(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """An object, outside of templates."""
    if not subject.template and any(isinstance(value, dict) for value in module.chunks.values()):
        fix = subject.options_replaced(module, module.options, as_text=True) if module.options else ()
        yield subject.options_hit(module, f"createOptions of {module.name} is an object", fix=fix)


@module_rule(
    "create-options-type",
    "Members of createOptions have the type that the engine takes",
    Severity.ERROR,
    reason="The engine refuses to create a container from a member of another type.",
    remedy="Env, Binds and Cmd are lists of text, Memory a number of bytes, HostPort text.",
    source=_CONTRACT,
)
def create_options_type(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """A member of another type."""
    for where, expected, value in _wrong_types(module):
        message = f"{where} of {module.name} must be {expected}, not {type_name(value)}"
        yield subject.options_hit(module, message, detail=where)


@module_rule(
    "create-options-value",
    "Members of createOptions have values that the engine takes",
    Severity.ERROR,
    reason="The engine refuses too little memory, ports that do not exist, and binds without a full path.",
    remedy="Give at least 6 MB of memory, ports up to 65535, and paths from the root.",
    source=_CONTRACT,
)
def create_options_value(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """A value out of bounds."""
    memory = member(module.host_config, "Memory")
    if isinstance(memory, int) and not isinstance(memory, bool) and 0 != memory < _MEMORY_BYTES_MIN:
        message = f"Memory of {module.name} is {shown(memory)} bytes, less than {_MEMORY_BYTES_MIN}"
        yield subject.options_hit(module, message, detail="Memory")
    for binding in port_bindings(module):
        if binding.host_port.isascii() and binding.host_port.isdecimal() and int(binding.host_port[:9]) > _PORT_MAX:
            message = f"{module.name} binds port {shown(binding.host_port)}, and there is none above {_PORT_MAX}"
            yield subject.options_hit(module, message, detail=f"HostPort {binding.container}")
    for bind in texts(member(module.host_config, "Binds")):
        parts = bind.split(":")
        # A name without a slash is a volume's.
        if len(parts) > 1 and not placeholders.inside(bind) and ("/" in parts[0]) and not _rooted(parts[0]):
            yield subject.options_hit(module, f"{module.name} binds {shown(parts[0])!r}, no full path", detail=bind)


@module_rule(
    "create-options-key-unknown",
    "Members of createOptions are ones that the engine knows",
    Severity.WARNING,
    reason="The engine takes no notice of a member it does not know, so what it should do is not done.",
    remedy="Look up the name; most settings of resources and the host belong into HostConfig.",
    source=_CONTRACT,
)
def create_options_key_unknown(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """A name that no member has."""
    for members, names, above in (
        (module.options, _container_members, ""),
        (module.host_config, _host_members, "HostConfig."),
    ):
        for name in members:
            if name.lower() not in names and not placeholders.inside(name):
                message = f"the engine knows no {above}{shown(name)} (in createOptions of {module.name})"
                yield subject.options_hit(module, message, detail=f"{above}{name}")


@module_rule(
    "create-options-restart",
    "The engine leaves restarts to the agent",
    Severity.WARNING,
    fixes=True,
    reason="Two that restart a module fight over it: the agent counts neither its failures nor its back-off right.",
    remedy="Remove HostConfig.RestartPolicy; restartPolicy of the module is what counts.",
    source="contract/edge.md §3.4, §4.2",
)
def create_options_restart(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """A restart policy of the engine's own."""
    policy = member(module.host_config, "RestartPolicy")
    name = member(policy, "Name") if isinstance(policy, dict) else policy
    if name in (None, "", "no"):
        return
    without = {key: value for key, value in module.host_config.items() if key.lower() != "restartpolicy"}
    fix = subject.options_replaced(module, _with_host_config(module, without))
    message = f"createOptions of {module.name} has a RestartPolicy of its own, {shown(name)!r}"
    yield subject.options_hit(module, message, fix=fix)


@module_rule(
    "env-shadow",
    "A variable is set in one place",
    Severity.WARNING,
    reason="Env of createOptions goes before env of the module, and before what the runtime tells the module.",
    remedy="Set variables in env of the module, and none that begins with IOTEDGE_.",
    source="contract/edge.md §3.9",
)
def env_shadow(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """A variable of createOptions that hides another."""
    for name in dict.fromkeys(entry.partition("=")[0] for entry in texts(member(module.options, "Env"))):
        if name in module.env:
            message = f"Env of createOptions hides {shown(name)} in env of {module.name}"
            yield subject.options_hit(module, message, detail=name)
        elif name.startswith("IOTEDGE_"):
            message = f"Env of createOptions sets {shown(name)}, which the runtime tells {module.name}"
            yield subject.options_hit(module, message, detail=name)


@module_rule(
    "log-config",
    "The logs of every module are limited",
    Severity.WARNING,
    fixes=True,
    reason="The engine does not limit logs by itself, and a full disk stops the device.",
    remedy="Give LogConfig the driver local, or json-file with max-size; or limit logs in the engine, and report it.",
    source=f"{_LOGS}; contract/edge.md §4.1",
)
def log_config(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """No driver that limits logs, unless the engine of the device has one."""
    engine = subject.host.engine if subject.host is not None else None
    if not module.whole or isinstance(module.written_options, Exception):
        return
    if engine is not None and limits_logs(engine.log_driver, engine.log_options):
        return
    config = member(module.host_config, "LogConfig")
    if config is None:
        whole = {"Type": "local", "Config": LOG_OPTIONS}
        options = _with_host_config(module, {**module.host_config, "LogConfig": whole})
        host_config = member(module.options, "HostConfig")
        fix = subject.options_replaced(module, options) if host_config is None or isinstance(host_config, dict) else ()
        yield subject.options_hit(module, f"{module.name} has no LogConfig", fix=fix)
    elif isinstance(config, dict) and member(config, "Type") in ("", None, "json-file"):
        limits = member(config, "Config")
        if not isinstance(limits, dict) or not limits.get("max-size"):
            yield subject.options_hit(module, f"LogConfig of {module.name} has no max-size")


@module_rule(
    "log-driver-known",
    "The logging driver is one that the engine has",
    Severity.ERROR,
    reason="The engine refuses to create a container with a driver it does not have, and only after a long wait.",
    remedy=f"Use one of {', '.join(sorted(_log_drivers))}.",
    source=f"{_LOGS}; {_CONTRACT}",
)
def log_driver_known(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """A driver of another name."""
    driver = _log_driver(module)
    if driver and driver not in _log_drivers and not placeholders.inside(driver):
        yield subject.options_hit(module, f"LogConfig of {module.name} names the driver {shown(driver)!r}")


@module_rule(
    "log-option-known",
    "The options of the logging driver are ones that it knows",
    Severity.ERROR,
    reason="The engine refuses to create a container with an option its driver does not know.",
    remedy="The usual ones of local and json-file are max-size, max-file and compress.",
    source=f"{_LOGS}; {_CONTRACT}",
)
def log_option_known(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """An option of another name."""
    config = member(module.host_config, "LogConfig")
    options = member(config, "Config") if isinstance(config, dict) else None
    driver = _log_driver(module)
    for name in options if isinstance(options, dict) and driver in _log_options else ():
        if name not in _log_options[driver]:
            yield subject.options_hit(module, f"{driver} knows no option {shown(name)!r} ({module.name})", detail=name)


class PortBinding(msgspec.Struct, frozen=True):
    """A port of the host that leads into a container; `container` is its port there, as in `443/tcp`."""

    container: str
    host_ip: str
    host_port: str

    @property
    def protocol(self) -> str:
        """tcp, unless it says another."""
        return self.container.partition("/")[2].lower() or "tcp"


def port_bindings(module: Module) -> list[PortBinding]:
    """The bindings of a module that are written as the engine wants them."""
    bindings = member(module.host_config, "PortBindings")
    result = []
    for container, hosts in bindings.items() if isinstance(bindings, dict) else ():
        for host in hosts if isinstance(hosts, list) else ():
            port = member(host, "HostPort") if isinstance(host, dict) else None
            address = member(host, "HostIp") if isinstance(host, dict) else None
            if isinstance(port, str) and port:
                result.append(PortBinding(container, address if isinstance(address, str) else "", port))
    return result


def limits_logs(driver: str, options: dict[str, str]) -> bool:
    """Whether a driver keeps logs from growing for ever (contract/edge.md §4.1)."""
    if driver in ("", "json-file"):
        return "max-size" in options
    return driver in _log_drivers


def texts(value: Json) -> list[str]:
    """The strings of a list; none if it is no list."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _with_host_config(module: Module, host_config: JsonObject) -> JsonObject:
    name = next((key for key in module.options if key.lower() == "hostconfig"), "HostConfig")
    if not host_config:
        return {key: value for key, value in module.options.items() if key != name}
    return {**module.options, name: host_config}


def _log_driver(module: Module) -> str:
    config = member(module.host_config, "LogConfig")
    driver = member(config, "Type") if isinstance(config, dict) else None
    return driver if isinstance(driver, str) else ""


def _chunks_wrong(module: Module) -> bool:
    names = sorted(module.chunks, key=lambda name: (len(name), name))
    expected = [_NO_NAME, *(f"{_NO_NAME}{number:02}" for number in range(1, len(names)))]
    lowered = [name.lower() for name in names]
    return lowered != [name.lower() for name in expected] or not all(
        isinstance(value, str) for value in module.chunks.values()
    )


def _open(module: Module) -> bool:
    return any(placeholders.variables(chunk) for chunk in module.chunks.values() if isinstance(chunk, str))


def _rooted(path: str) -> bool:
    # A drive's letter ends at the colon that parts a bind.
    return path.startswith(("/", "~", "\\")) or len(path) == 1


def _is_texts(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_command(value: Json) -> bool:
    return isinstance(value, str) or _is_texts(value)


def _is_number(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_object(value: Json) -> bool:
    return isinstance(value, dict)


def _is_boolean(value: Json) -> bool:
    return isinstance(value, bool)


_TYPES: tuple[tuple[str, str, str, Callable[[Json], bool]], ...] = (
    *(("", name, "a list of strings", _is_texts) for name in ("Env", "OnBuild", "Shell")),
    *(("", name, "a list of strings", _is_command) for name in ("Cmd", "Entrypoint")),
    *(("", name, "an object", _is_object) for name in ("ExposedPorts", "Labels", "Volumes", "HostConfig")),
    *(
        ("HostConfig", name, "a list of strings", _is_texts)
        for name in (
            "Binds",
            "CapAdd",
            "CapDrop",
            "Dns",
            "ExtraHosts",
            "GroupAdd",
            "Links",
            "SecurityOpt",
            "VolumesFrom",
        )
    ),
    *(
        ("HostConfig", name, "a whole number", _is_number)
        for name in ("Memory", "MemorySwap", "NanoCpus", "CpuShares", "CpuQuota", "CpuPeriod", "PidsLimit", "ShmSize")
    ),
    *(
        ("HostConfig", name, "an object", _is_object)
        for name in ("PortBindings", "LogConfig", "RestartPolicy", "Sysctls", "Tmpfs")
    ),
    *(("HostConfig", name, "true or false", _is_boolean) for name in ("Privileged", "ReadonlyRootfs", "AutoRemove")),
)


def _wrong_types(module: Module) -> Iterator[tuple[str, str, Json]]:
    for above, name, expected, fits in _TYPES:
        value = member(module.host_config if above else module.options, name)
        if value is not None and not fits(value) and not (isinstance(value, str) and placeholders.inside(value)):
            yield f"{above}.{name}" if above else name, expected, value
    bindings = member(module.host_config, "PortBindings")
    for container, hosts in bindings.items() if isinstance(bindings, dict) else ():
        where = f"PortBindings of {shown(container)}"
        if hosts is not None and not isinstance(hosts, list):
            yield where, "a list", hosts
        for host in hosts if isinstance(hosts, list) else ():
            port = member(host, "HostPort") if isinstance(host, dict) else None
            if port is not None and not isinstance(port, str):
                yield f"HostPort in {where}", "a string", port
