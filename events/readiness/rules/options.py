"""Rules about createOptions: the engine accepts them, and they limit a module's logs."""

from collections.abc import Callable, Iterator

import msgspec

from events.canonical import Json, JsonObject
from events.manifest import placeholders
from events.manifest.document import object_of
from events.manifest.problem import Severity
from events.manifest.shape import refusal, shown, type_name
from events.readiness.finding import Hit
from events.readiness.host_facts import HostFacts
from events.readiness.module import Module, list_of, member, texts
from events.readiness.rule import module_rule
from events.readiness.subject import ReadinessSubject

_CONTRACT = "contract/edge.md §7.5"
_LOGS = "seed 003, Set up default logging driver"
_MEMORY_BYTES_MIN = 6 * 1024 * 1024
_PORT_MAX = 65_535

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

# The members of the engine's API 1.41 in lower case, because the engine ignores the case of names.
_container_members = {
    *("hostname", "domainname", "user", "attachstdin", "attachstdout", "attachstderr", "exposedports", "tty"),
    *("openstdin", "stdinonce", "env", "cmd", "healthcheck", "argsescaped", "image", "volumes", "workingdir"),
    *("entrypoint", "networkdisabled", "macaddress", "onbuild", "labels", "stopsignal", "stoptimeout", "shell"),
    *("hostconfig", "networkingconfig"),
}
_host_members = {
    *("autoremove", "binds", "blkiodevicereadbps", "blkiodevicereadiops", "blkiodevicewritebps"),
    *("blkiodevicewriteiops", "blkioweight", "blkioweightdevice", "capadd", "capdrop", "cgroup", "cgroupnsmode"),
    *("cgroupparent", "consolesize", "containeridfile", "cpucount", "cpupercent", "cpuperiod", "cpuquota"),
    "cpurealtimeperiod",
    *("cpurealtimeruntime", "cpusetcpus", "cpusetmems", "cpushares", "devicecgrouprules", "devicerequests", "devices"),
    *("dns", "dnsoptions", "dnssearch", "extrahosts", "groupadd", "init", "iomaximumbandwidth", "iomaximumiops"),
    *("ipcmode", "isolation", "kernelmemory", "kernelmemorytcp", "links", "logconfig", "maskedpaths", "memory"),
    *("memoryreservation", "memoryswap", "memoryswappiness", "mounts", "nanocpus", "networkmode", "oomkilldisable"),
    *("oomscoreadj", "pidmode", "pidslimit", "portbindings", "privileged", "publishallports", "readonlypaths"),
    *("readonlyrootfs", "restartpolicy", "runtime", "securityopt", "shmsize", "storageopt", "sysctls", "tmpfs"),
    *("ulimits", "usernsmode", "utsmode", "volumedriver", "volumesfrom"),
}


@module_rule("create-options-json", Severity.ERROR, source="contract/edge.md §1.1")
def create_options_json(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """The createOptions are a JSON object.

    If the text is not a JSON object, the agent reports status 400 for the whole deployment.
    Remedy: Write a JSON object as text. Build tools convert the object of a template.
    """
    error = module.written_options
    # The rule create-options-chunks reports chunks. With a placeholder, the final text is not known.
    if not isinstance(error, Exception) or _chunks_wrong(module):
        return
    if not any(placeholders.variables(chunk) for chunk in module.chunks.values() if isinstance(chunk, str)):
        yield subject.options_hit(module, f"{module.name}: {refusal(error)}")


@module_rule("create-options-chunks", Severity.ERROR, source="contract/edge.md §1.1, createOptions chunking")
def create_options_chunks(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """The chunks of createOptions are numbered without gaps.

    The agent joins createOptions, createOptions01 and so on, and rejects a missing number.
    Remedy: Number the chunks from createOptions01 without gaps.
    """
    error = module.written_options
    if isinstance(error, Exception) and _chunks_wrong(module):
        yield subject.options_hit(module, f"{module.name}: {refusal(error)}")


@module_rule("create-options-object", Severity.ERROR, fixes=True, source="contract/edge.md §1.1")
def create_options_object(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """The createOptions are text.

    The manifest schema accepts only text. Objects are for templates.
    Remedy: Deploy the manifest that the build generates from the template, or write the object as text.
    """
    if not subject.template and any(isinstance(value, dict) for value in module.chunks.values()):
        fix = subject.options_replaced(module, module.options, as_text=True) if module.options else ()
        yield subject.options_hit(module, f"createOptions of {module.name} is an object", fix=fix)


@module_rule("create-options-type", Severity.ERROR, source=_CONTRACT)
def create_options_type(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """Members of createOptions have the right type.

    The engine rejects a container if a member has the wrong type.
    Remedy: Write Env, Binds and Cmd as lists of strings, Memory as a number of bytes, and HostPort as a string.
    """
    for where, expected, value in _wrong_types(module):
        message = f"{where} of {module.name} must be {expected}, not {type_name(value)}"
        yield subject.options_hit(module, message, detail=where)


@module_rule("create-options-value", Severity.ERROR, source=_CONTRACT)
def create_options_value(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """Members of createOptions have valid values.

    The engine rejects too little memory, ports above 65535, and binds of relative paths.
    Remedy: Use at least 6 MiB of memory, ports up to 65535, and absolute paths.
    """
    memory = member(module.host_config, "Memory")
    # 0 means no limit to the engine.
    if isinstance(memory, int) and not isinstance(memory, bool) and 0 != memory < _MEMORY_BYTES_MIN:
        message = f"Memory of {module.name} is {shown(memory)} bytes, less than {_MEMORY_BYTES_MIN}"
        yield subject.options_hit(module, message, detail="Memory")
    for binding in port_bindings(module):
        # A range such as 8000-8010 is valid; nine digits are enough to see that a number is too large.
        if binding.host_port.isascii() and binding.host_port.isdecimal() and int(binding.host_port[:9]) > _PORT_MAX:
            message = f"{module.name} binds port {shown(binding.host_port)}, which is above {_PORT_MAX}"
            yield subject.options_hit(module, message, detail=f"HostPort {binding.container}")
    for bind in texts(member(module.host_config, "Binds")):
        source, colon, _ = bind.partition(":")
        # A source without a slash is the name of a volume, and of `C:\\data` only the drive letter is left here.
        is_absolute = source.startswith(("/", "~", "\\")) or len(source) == 1
        if colon and not placeholders.inside(bind) and "/" in source and not is_absolute:
            message = f"{module.name} binds {shown(source)!r}, which is not an absolute path"
            yield subject.options_hit(module, message, detail=bind)


@module_rule("create-options-key-unknown", Severity.WARNING, source=_CONTRACT)
def create_options_key_unknown(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """The engine knows every member of createOptions.

    The engine ignores unknown members, so such a setting has no effect.
    Remedy: Correct the name. Most settings of resources and of the host belong in HostConfig.
    """
    for members, names, above in (
        (module.options, _container_members, ""),
        (module.host_config, _host_members, "HostConfig."),
    ):
        for name in members:
            if name.lower() not in names and not placeholders.inside(name):
                message = f"createOptions of {module.name} has the unknown member {above}{shown(name)}"
                yield subject.options_hit(module, message, detail=f"{above}{name}")


@module_rule("create-options-restart", Severity.WARNING, fixes=True, source="contract/edge.md §3.4, §4.2")
def create_options_restart(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """Only the agent restarts modules.

    If the engine restarts a module too, the agent misses failures, and its back-off does not work.
    Remedy: Remove HostConfig.RestartPolicy. The agent uses restartPolicy of the module.
    """
    policy = member(module.host_config, "RestartPolicy")
    name = member(policy, "Name") if isinstance(policy, dict) else policy
    # The engine does not restart containers with these values.
    if name in (None, "", "no"):
        return
    without = {key: value for key, value in module.host_config.items() if key.lower() != "restartpolicy"}
    fix = subject.options_replaced(module, _with_host_config(module, without))
    message = f"createOptions of {module.name} has the RestartPolicy {shown(name)!r}"
    yield subject.options_hit(module, message, fix=fix)


@module_rule("env-shadow", Severity.WARNING, source="contract/edge.md §3.9")
def env_shadow(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """Every environment variable is set in one place.

    Env of createOptions overrides env of the module and the variables of the runtime.
    Remedy: Set variables in env of the module, and do not use names that begin with IOTEDGE_.
    """
    for name in dict.fromkeys(entry.partition("=")[0] for entry in texts(member(module.options, "Env"))):
        if name in module.env:
            message = f"Env of createOptions overrides {shown(name)} in env of {module.name}"
            yield subject.options_hit(module, message, detail=name)
        elif name.startswith("IOTEDGE_"):
            message = f"Env of createOptions overrides {shown(name)}, which the runtime sets for {module.name}"
            yield subject.options_hit(module, message, detail=name)


@module_rule("log-config", Severity.WARNING, fixes=True, source=f"{_LOGS}; contract/edge.md §4.1")
def log_config(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """Every module limits its logs.

    By default the engine does not limit logs, and a full disk stops the device.
    Remedy: Set LogConfig to the driver local, or to json-file with max-size. Or limit them in the engine, and report the host facts.
    """
    engine = subject.host.engine if isinstance(subject.host, HostFacts) else None
    # Of a layer alone, the base may set the LogConfig.
    if not module.whole or isinstance(module.written_options, Exception):
        return
    if engine is not None and limits_logs(engine.log_driver, engine.log_options):
        return
    config = member(module.host_config, "LogConfig")
    if config is None:
        # The example limits of the checklist (seed 003, Set up default logging driver).
        limited = {"Type": "local", "Config": {"max-size": "10m", "max-file": "3"}}
        options = _with_host_config(module, {**module.host_config, "LogConfig": limited})
        host_config = member(module.options, "HostConfig")
        fix = subject.options_replaced(module, options) if host_config is None or isinstance(host_config, dict) else ()
        yield subject.options_hit(module, f"{module.name} has no LogConfig", fix=fix)
    elif isinstance(config, dict) and member(config, "Type") in ("", None, "json-file"):
        limits = member(config, "Config")
        if not isinstance(limits, dict) or not limits.get("max-size"):
            yield subject.options_hit(module, f"LogConfig of {module.name} has no max-size")


@module_rule("log-driver-known", Severity.ERROR, source=f"{_LOGS}; {_CONTRACT}", names=", ".join(sorted(_log_drivers)))
def log_driver_known(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """The engine has the logging driver.

    The engine rejects a container with an unknown driver, and only after a long wait.
    Remedy: Use one of {names}.
    """
    driver = _log_driver(module)
    if driver and driver not in _log_drivers and not placeholders.inside(driver):
        yield subject.options_hit(module, f"LogConfig of {module.name} names the unknown driver {shown(driver)!r}")


@module_rule("log-option-known", Severity.ERROR, source=f"{_LOGS}; {_CONTRACT}")
def log_option_known(subject: ReadinessSubject, module: Module) -> Iterator[Hit]:
    """The logging driver knows its options.

    The engine rejects a container with an unknown option of its logging driver.
    Remedy: Correct the name. The usual options of local and json-file are max-size, max-file and compress.
    """
    driver = _log_driver(module)
    for name in object_of(member(member(module.host_config, "LogConfig"), "Config")):
        if driver in _log_options and name not in _log_options[driver]:
            message = f"LogConfig of {module.name} has the option {shown(name)!r}, which {driver} does not know"
            yield subject.options_hit(module, message, detail=name)


class PortBinding(msgspec.Struct, frozen=True):
    """A port of the host that is forwarded to a container; `container` is the port there, such as `443/tcp`."""

    container: str
    host_ip: str
    host_port: str

    @property
    def protocol(self) -> str:
        """The protocol of the container's port; tcp by default."""
        return self.container.partition("/")[2].lower() or "tcp"


def port_bindings(module: Module) -> list[PortBinding]:
    """Return the bindings of a module that have the form that the engine accepts."""
    result = []
    for container, hosts in object_of(member(module.host_config, "PortBindings")).items():
        for host in list_of(hosts):
            port, address = member(host, "HostPort"), member(host, "HostIp")
            if isinstance(port, str) and port:
                result.append(PortBinding(container, address if isinstance(address, str) else "", port))
    return result


def limits_logs(driver: str, options: dict[str, str]) -> bool:
    """Return whether a driver limits the size of logs (contract/edge.md §4.1)."""
    return "max-size" in options if driver in ("", "json-file") else driver in _log_drivers


def _with_host_config(module: Module, host_config: JsonObject) -> JsonObject:
    name = next((key for key in module.options if key.lower() == "hostconfig"), "HostConfig")
    options = {**module.options, name: host_config}
    return {key: value for key, value in options.items() if key != name or host_config}


def _log_driver(module: Module) -> str:
    driver = member(member(module.host_config, "LogConfig"), "Type")
    return driver if isinstance(driver, str) else ""


def _chunks_wrong(module: Module) -> bool:
    names = [name.lower() for name in sorted(module.chunks, key=lambda name: (len(name), name))]
    expected = ["createoptions", *(f"createoptions{number:02}" for number in range(1, len(names)))]
    return names != expected or not all(isinstance(value, str) for value in module.chunks.values())


def _is_texts(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_type(types: type | tuple[type, ...]) -> Callable[[Json], bool]:
    # bool is an int in Python; without this, true would be a number.
    return lambda value: isinstance(value, types) and (types is bool or not isinstance(value, bool))


# (type as messages name it, test, members), for createOptions and for HostConfig.
_Types = tuple[tuple[str, Callable[[Json], bool], tuple[str, ...]], ...]
_CONTAINER_TYPES: _Types = (
    ("a list of strings", _is_texts, ("Env", "OnBuild", "Shell")),
    # The engine also accepts one string as a command.
    ("a list of strings", lambda value: isinstance(value, str) or _is_texts(value), ("Cmd", "Entrypoint")),
    ("an object", _is_type(dict), ("ExposedPorts", "Labels", "Volumes", "HostConfig")),
)
_HOST_TYPES: _Types = (
    ("a list of strings", _is_texts, ("Binds", "CapAdd", "CapDrop", "Dns", "ExtraHosts", "GroupAdd")),
    ("a list of strings", _is_texts, ("Links", "SecurityOpt", "VolumesFrom")),
    ("a whole number", _is_type(int), ("Memory", "MemorySwap", "NanoCpus", "CpuShares", "CpuQuota")),
    ("a whole number", _is_type(int), ("CpuPeriod", "PidsLimit", "ShmSize")),
    ("an object", _is_type(dict), ("PortBindings", "LogConfig", "RestartPolicy", "Sysctls", "Tmpfs")),
    ("true or false", _is_type(bool), ("Privileged", "ReadonlyRootfs", "AutoRemove")),
)


def _wrong_types(module: Module) -> Iterator[tuple[str, str, Json]]:
    """Yield (member, expected type, value) of each member of the wrong type."""
    for members, above, types in (
        (module.options, "", _CONTAINER_TYPES),
        (module.host_config, "HostConfig.", _HOST_TYPES),
    ):
        for expected, fits, names in types:
            for name in names:
                value = member(members, name)
                is_placeholder = isinstance(value, str) and placeholders.inside(value)
                if value is not None and not fits(value) and not is_placeholder:
                    yield f"{above}{name}", expected, value
    for container, hosts in object_of(member(module.host_config, "PortBindings")).items():
        where = f"PortBindings of {shown(container)}"
        if hosts is not None and not isinstance(hosts, list):
            yield where, "a list", hosts
        for host in list_of(hosts):
            port = member(host, "HostPort")
            if port is not None and not isinstance(port, str):
                yield f"HostPort in {where}", "a string", port
