"""What a container may be: pure rules over the body of a create request.

The engine reads JSON as Go does: names match in any case (`privileged` is `Privileged`), and the last of several equal
names wins. So a body is read strictly, every name must be one of those below in exactly this spelling, and what is
handed on is written anew from what was looked at. What a newer engine understands is refused until it has a rule.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from evergreen.broker.mounts import check_binds, check_mounts, check_tmpfs, check_together
from evergreen.broker.refusal import RefusedError, Rule, shown
from evergreen.settings.broker import BrokerSettings, is_plain_path

PART_LABEL, PART = "evergreen.part", "trainer"
BROKER_LABEL = "evergreen.broker"

Check = Callable[[Any, str, BrokerSettings], Any]

_USER = re.compile(r"[1-9][0-9]{0,9}(:[1-9][0-9]{0,9})?")
_HIGHEST_ID = 2**31 - 1
_NO_NEW_PRIVILEGES = ("no-new-privileges", "no-new-privileges:true", "no-new-privileges=true")
_LOG_DEFAULT = {"Type": "json-file", "Config": {"max-size": "50m", "max-file": "1"}}
_LOG_OPTIONS = {"max-size": re.compile(r"[1-9][0-9]{0,2}[km]"), "max-file": re.compile(r"[1-9]")}


def review_create(body: bytes, settings: BrokerSettings) -> dict[str, Any]:
    """The body of a create request as the engine may get it.

    `Image` still stands as the client wrote it: the caller resolves it to an id.

    Raises:
        RefusedError: naming the rule.
    """
    document = read_object(body)
    config = _review(document, "", _CONFIG, _CONFIG_EMPTY, settings)
    host = config.get("HostConfig", {})
    _require(config, "", {"Image": Rule.IMAGE, "User": Rule.USER, "Labels": Rule.LABELS})
    _require(
        host,
        "HostConfig.",
        {
            "NetworkMode": Rule.NETWORK,
            "ReadonlyRootfs": Rule.READ_ONLY_ROOT,
            "CapDrop": Rule.CAPABILITIES,
            "SecurityOpt": Rule.SECURITY_OPTIONS,
            "Memory": Rule.MEMORY,
            "NanoCpus": Rule.CPUS,
            "PidsLimit": Rule.PIDS,
        },
    )
    _check_memory(host)
    check_together(host)
    host.setdefault("LogConfig", _LOG_DEFAULT)
    return {**config, "Labels": {**config["Labels"], BROKER_LABEL: settings.name}}


def own_labels(settings: BrokerSettings) -> dict[str, str]:
    """What a container must be labelled with, so that it is one of this broker's."""
    return {PART_LABEL: PART, BROKER_LABEL: settings.name}


def read_object(body: bytes) -> dict[str, Any]:
    """A JSON object, read strictly: UTF-8, no name twice in any case, no NaN, nothing behind it.

    Raises:
        RefusedError: rule `body`.
    """
    try:
        document = json.loads(body.decode("utf-8"), object_pairs_hook=_no_twins, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RefusedError(Rule.BODY, f"the body cannot be read ({error})", "must be one JSON object") from None
    if not isinstance(document, dict):
        raise RefusedError(Rule.BODY, f"the body is {shown(document)}", "must be one JSON object")
    return document


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: set[str] = set()
    for name, _ in pairs:
        if name.casefold() in seen:
            raise RefusedError(Rule.BODY, f"{name!r} stands twice", "a name must stand once, whatever its case")
        seen.add(name.casefold())
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _review(
    document: Any, where: str, checks: Mapping[str, Check], empty: Mapping[str, Rule], settings: BrokerSettings
) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise RefusedError(Rule.BODY, f"{where.rstrip('.')} is {shown(document)}", "must be an object")
    kept = {}
    for name, value in document.items():
        if name in empty:
            if not _is_empty(value):
                raise RefusedError(empty[name], f"{where}{name} is {shown(value)}", "must be left out")
        elif name not in checks:
            raise RefusedError(Rule.KEYS, f"{where}{name} = {shown(value)}", "no such key is allowed")
        elif value is not None:
            kept[name] = checks[name](value, f"{where}{name}", settings)
    return kept


def _is_empty(value: Any) -> bool:
    return value is None or value is False or (type(value) in (int, str, list, dict) and not value)


def _require(document: dict[str, Any], where: str, names: Mapping[str, Rule]) -> None:
    for name, rule in names.items():
        if name not in document:
            raise RefusedError(rule, f"{where}{name} is missing", "must be given")


def _check_memory(host: dict[str, Any]) -> None:
    memory = host["Memory"]
    for name, most in {"MemoryReservation": memory, "ShmSize": memory, "MemorySwap": 2 * memory}.items():
        if host.get(name, 0) > most:
            raise RefusedError(Rule.MEMORY, f"HostConfig.{name} is {host[name]}", f"must be at most {most}")
    if host.get("MemorySwap", memory) < memory:
        seen = f"HostConfig.MemorySwap is {host['MemorySwap']}"
        raise RefusedError(Rule.MEMORY, seen, f"must be at least Memory, {memory}")


def _one_of(rule: Rule, *allowed: Any) -> Check:
    def check(value: Any, where: str, settings: BrokerSettings) -> Any:
        if not any(type(value) is type(one) and value == one for one in allowed):
            expected = " or ".join(shown(one) for one in allowed)
            raise RefusedError(rule, f"{where} is {shown(value)}", f"must be {expected}")
        return value

    return check


def _number(rule: Rule, lowest: int, highest: Callable[[BrokerSettings], int]) -> Check:
    def check(value: Any, where: str, settings: BrokerSettings) -> int:
        most = highest(settings)
        if type(value) is not int or not lowest <= value <= most:
            raise RefusedError(rule, f"{where} is {shown(value)}", f"must be a whole number from {lowest} to {most}")
        return value

    return check


def _text(rule: Rule, pattern: str) -> Check:
    def check(value: Any, where: str, settings: BrokerSettings) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise RefusedError(rule, f"{where} is {shown(value)}", f"must match {pattern}")
        return value

    return check


def _words(value: Any, where: str, settings: BrokerSettings) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(word, str) and "\0" not in word for word in value):
        raise RefusedError(Rule.BODY, f"{where} is {shown(value)}", "must be a list of texts")
    return value


def _user(value: Any, where: str, settings: BrokerSettings) -> str:
    """A number: a name is looked up in the image, where it may be root's."""
    if not isinstance(value, str) or not _USER.fullmatch(value) or max(map(int, value.split(":"))) > _HIGHEST_ID:
        raise RefusedError(
            Rule.USER, f"{where} is {shown(value)}", "must be UID or UID:GID in numbers, neither of them 0"
        )
    return value


def _environment(value: Any, where: str, settings: BrokerSettings) -> list[str]:
    """`NVIDIA_...` gives GPUs past DeviceRequests; `LD_...` may reach the GPU runtime's hooks on the host."""
    for line in _words(value, where, settings):
        name = line.partition("=")[0]
        if name.upper().startswith(("NVIDIA_", "LD_")):
            raise RefusedError(Rule.ENVIRONMENT, f"{where} sets {name}", "must set no NVIDIA_... and no LD_...")
    return list(value)


def _labels(value: Any, where: str, settings: BrokerSettings) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise RefusedError(Rule.LABELS, f"{where} is {shown(value)}", "must be an object of texts")
    for name in value:
        if not name.startswith("evergreen.") or name == BROKER_LABEL:
            expected = f"labels must begin with 'evergreen.', and {BROKER_LABEL} is the broker's to give"
            raise RefusedError(Rule.LABELS, f"{where} has {name!r}", expected)
    if value.get(PART_LABEL) != PART:
        seen = f"{where} has {PART_LABEL} = {shown(value.get(PART_LABEL))}"
        raise RefusedError(Rule.LABELS, seen, f"must be {PART!r}")
    return value


def _network(value: Any, where: str, settings: BrokerSettings) -> str:
    return str(_one_of(Rule.NETWORK, *settings.networks)(value, where, settings))


def _directory(value: Any, where: str, settings: BrokerSettings) -> str:
    if not isinstance(value, str) or not (value == "/" or is_plain_path(value)):
        raise RefusedError(Rule.MOUNTS, f"{where} is {shown(value)}", "must be a plain absolute path")
    return value


def _security_options(value: Any, where: str, settings: BrokerSettings) -> list[str]:
    if not isinstance(value, list) or not value or any(option not in _NO_NEW_PRIVILEGES for option in value):
        raise RefusedError(Rule.SECURITY_OPTIONS, f"{where} is {shown(value)}", 'must be ["no-new-privileges"]')
    return value


def _restart_policy(value: Any, where: str, settings: BrokerSettings) -> dict[str, Any]:
    never = _one_of(Rule.LIFECYCLE, "", "no")
    return _review(value, f"{where}.", {"Name": never}, {"MaximumRetryCount": Rule.LIFECYCLE}, settings)


def _log(value: Any, where: str, settings: BrokerSettings) -> dict[str, Any]:
    """Logs stay at the engine, and are bounded whether the client asks for it or not."""
    log = _review(
        value, f"{where}.", {"Type": _one_of(Rule.LOG, "", "json-file"), "Config": _log_options}, {}, settings
    )
    return {"Type": "json-file", "Config": {**_LOG_DEFAULT["Config"], **log.get("Config", {})}}  # type: ignore[dict-item]


def _log_options(value: Any, where: str, settings: BrokerSettings) -> dict[str, Any]:
    checks = {name: _text(Rule.LOG, pattern.pattern) for name, pattern in _LOG_OPTIONS.items()}
    return _review(value, f"{where}.", checks, {}, settings)


def _device_requests(value: Any, where: str, settings: BrokerSettings) -> list[dict[str, Any]]:
    if not isinstance(value, list) or (value and not settings.gpus):
        raise RefusedError(Rule.DEVICES, f"{where} is {shown(value)}", "must be left out (settings.broker.gpus)")
    requests = [_review(request, f"{where}.", _DEVICE_REQUEST, _DEVICE_REQUEST_EMPTY, settings) for request in value]
    for request in requests:
        _require(request, f"{where}.", {"Capabilities": Rule.DEVICES})
    return requests


def _must_be_null(value: Any, where: str, settings: BrokerSettings) -> Any:
    """For lists that hide the host's state from the container: an empty list there means that nothing is hidden."""
    raise RefusedError(Rule.SECURITY_OPTIONS, f"{where} is {shown(value)}", "must be left out")


_DEVICE_REQUEST: dict[str, Check] = {
    "Driver": _one_of(Rule.DEVICES, "", "nvidia"),
    "Count": _number(Rule.DEVICES, -1, lambda settings: 64),
    "DeviceIDs": lambda value, where, settings: [
        _text(Rule.DEVICES, r"[0-9]{1,3}|GPU-[0-9a-f-]{8,40}")(one, where, settings)
        for one in _words(value, where, settings)
    ],
    "Capabilities": _one_of(Rule.DEVICES, [["gpu"]]),
}
_DEVICE_REQUEST_EMPTY = {"Options": Rule.DEVICES}

_FLAG = _one_of(Rule.BODY, True, False)

_HOST_CONFIG: dict[str, Check] = {
    "NetworkMode": _network,
    "ReadonlyRootfs": _one_of(Rule.READ_ONLY_ROOT, True),
    "CapDrop": _one_of(Rule.CAPABILITIES, ["ALL"]),
    "SecurityOpt": _security_options,
    "MaskedPaths": _must_be_null,
    "ReadonlyPaths": _must_be_null,
    "IpcMode": _one_of(Rule.NAMESPACES, "", "private", "none"),
    "CgroupnsMode": _one_of(Rule.NAMESPACES, "", "private"),
    "Memory": _number(Rule.MEMORY, 1, lambda settings: settings.max_memory_bytes),
    "MemorySwap": _number(Rule.MEMORY, 0, lambda settings: 2 * settings.max_memory_bytes),
    "MemoryReservation": _number(Rule.MEMORY, 0, lambda settings: settings.max_memory_bytes),
    "ShmSize": _number(Rule.MEMORY, 1, lambda settings: settings.max_memory_bytes),
    "NanoCpus": _number(Rule.CPUS, 1, lambda settings: settings.max_nano_cpus),
    "CpuShares": _number(Rule.CPUS, 0, lambda settings: 2**18),
    "PidsLimit": _number(Rule.PIDS, 1, lambda settings: settings.max_pids),
    "OomScoreAdj": _number(Rule.HOST, 0, lambda settings: 1000),
    "Init": _FLAG,
    "Binds": check_binds,
    "Mounts": check_mounts,
    "Tmpfs": check_tmpfs,
    "DeviceRequests": _device_requests,
    "RestartPolicy": _restart_policy,
    "LogConfig": _log,
}

_HOST_CONFIG_EMPTY: dict[str, Rule] = {
    "Privileged": Rule.PRIVILEGED,
    "CapAdd": Rule.CAPABILITIES,
    "Capabilities": Rule.CAPABILITIES,
    "GroupAdd": Rule.USER,
    "PidMode": Rule.NAMESPACES,
    "UTSMode": Rule.NAMESPACES,
    "UsernsMode": Rule.NAMESPACES,
    "Cgroup": Rule.NAMESPACES,
    "CgroupParent": Rule.HOST,
    "Sysctls": Rule.HOST,
    "Runtime": Rule.HOST,
    "Isolation": Rule.HOST,
    "OomKillDisable": Rule.HOST,
    "StorageOpt": Rule.HOST,
    "ContainerIDFile": Rule.HOST,
    "Annotations": Rule.HOST,
    "Devices": Rule.DEVICES,
    "DeviceCgroupRules": Rule.DEVICES,
    "VolumesFrom": Rule.MOUNTS,
    "VolumeDriver": Rule.MOUNTS,
    "PortBindings": Rule.NETWORK,
    "PublishAllPorts": Rule.NETWORK,
    "Links": Rule.NETWORK,
    "ExtraHosts": Rule.NETWORK,
    "Dns": Rule.NETWORK,
    "DnsOptions": Rule.NETWORK,
    "DnsSearch": Rule.NETWORK,
    "AutoRemove": Rule.LIFECYCLE,
    "Ulimits": Rule.HOST,
    "CpuPeriod": Rule.CPUS,
    "CpuQuota": Rule.CPUS,
    "CpusetCpus": Rule.CPUS,
    "CpusetMems": Rule.CPUS,
    "CpuRealtimePeriod": Rule.CPUS,
    "CpuRealtimeRuntime": Rule.CPUS,
    "KernelMemory": Rule.MEMORY,
    "MemorySwappiness": Rule.MEMORY,
}


def _host_config(value: Any, where: str, settings: BrokerSettings) -> dict[str, Any]:
    return _review(value, f"{where}.", _HOST_CONFIG, _HOST_CONFIG_EMPTY, settings)


_CONFIG: dict[str, Check] = {
    "Image": _text(Rule.IMAGE, r".{1,300}"),
    "User": _user,
    "Labels": _labels,
    "Env": _environment,
    "Cmd": _words,
    "Entrypoint": _words,
    "WorkingDir": _directory,
    "Hostname": _text(Rule.BODY, r"[A-Za-z0-9-]{0,63}"),
    "Tty": _FLAG,
    "AttachStdout": _FLAG,
    "AttachStderr": _FLAG,
    "NetworkDisabled": _FLAG,
    "StopSignal": _text(Rule.LIFECYCLE, r"(SIG)?[A-Z0-9]{1,10}"),
    "StopTimeout": _number(Rule.LIFECYCLE, 0, lambda settings: 300),
    "HostConfig": _host_config,
}

_CONFIG_EMPTY: dict[str, Rule] = {
    "AttachStdin": Rule.LIFECYCLE,
    "OpenStdin": Rule.LIFECYCLE,
    "StdinOnce": Rule.LIFECYCLE,
    "Healthcheck": Rule.LIFECYCLE,
    "Domainname": Rule.NETWORK,
    "ExposedPorts": Rule.NETWORK,
    "NetworkingConfig": Rule.NETWORK,
    "MacAddress": Rule.NETWORK,
    "Volumes": Rule.MOUNTS,
    "Runtime": Rule.HOST,
}
