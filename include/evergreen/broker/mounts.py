"""Rules for what a container sees of a disk: named volumes at their declared places, and tmpfs with a size.

A volume's name is compared with the allow list as text. A path of the host (absolute, relative, through a symbolic
link) is never a name on that list, so that there is nothing to resolve and nothing to get round.
"""

from __future__ import annotations

import re
from typing import Any

from evergreen.broker.refusal import RefusedError, Rule, shown
from evergreen.settings.broker import BrokerSettings, is_plain_path

_MOUNT_KEYS = {"Type", "Source", "Target", "ReadOnly", "VolumeOptions", "TmpfsOptions"}
_SIZE = re.compile(r"([1-9][0-9]{0,14})([kmg]?)", re.IGNORECASE)
_UNIT = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_TMPFS_FLAGS = {"rw", "noexec", "nosuid", "nodev"}
_TMPFS_NUMBERS = re.compile(r"(?:mode=[0-7]{3,4}|uid=[0-9]{1,9}|gid=[0-9]{1,9})")
_KERNEL_PATHS = ("/proc", "/sys", "/dev")


def check_binds(value: Any, where: str, settings: BrokerSettings) -> list[str]:
    """`name:/path` or `name:/path:ro`, of volumes on the list.

    Raises:
        RefusedError: rule `mounts`.
    """
    if not isinstance(value, list) or not all(isinstance(bind, str) for bind in value):
        raise RefusedError(Rule.MOUNTS, f"{where} is {shown(value)}", "must be a list of texts")
    for bind in value:
        name, _, rest = bind.partition(":")
        target, _, mode = rest.partition(":")
        if mode not in ("", "ro", "rw"):
            raise RefusedError(Rule.MOUNTS, f"{where} has {shown(bind)}", "must be name:/path, name:/path:ro or ...:rw")
        _check_volume(name, target, mode == "ro", where, settings)
    return value


def check_mounts(value: Any, where: str, settings: BrokerSettings) -> list[dict[str, Any]]:
    """Mounts of the types `volume` and `tmpfs`, without further options.

    Raises:
        RefusedError: rule `mounts` or `keys`.
    """
    if not isinstance(value, list) or not all(isinstance(mount, dict) for mount in value):
        raise RefusedError(Rule.MOUNTS, f"{where} is {shown(value)}", "must be a list of objects")
    return [_check_mount(mount, where, settings) for mount in value]


def _check_mount(mount: dict[str, Any], where: str, settings: BrokerSettings) -> dict[str, Any]:
    unknown = sorted(name for name in mount if name not in _MOUNT_KEYS and mount[name])
    if unknown:
        raise RefusedError(
            Rule.KEYS, f"{where} has {unknown[0]} = {shown(mount[unknown[0]])}", "no such key is allowed"
        )
    kind, target, read_only = mount.get("Type"), mount.get("Target"), mount.get("ReadOnly") or False
    if not isinstance(target, str) or type(read_only) is not bool:
        raise RefusedError(
            Rule.MOUNTS, f"{where} has {shown(mount)}", "Target must be a path and ReadOnly true or false"
        )
    if kind == "tmpfs" and not mount.get("Source") and not mount.get("VolumeOptions"):
        return {"Type": kind, "Target": target, "TmpfsOptions": _tmpfs_options(mount, target, where)}
    if kind != "volume" or mount.get("TmpfsOptions"):
        raise RefusedError(Rule.MOUNTS, f"{where} has {shown(mount)}", "must be of type volume or tmpfs")
    options = mount.get("VolumeOptions") or {}
    if options not in ({}, {"NoCopy": True}, {"NoCopy": False}):
        raise RefusedError(Rule.MOUNTS, f"{where} has VolumeOptions {shown(options)}", "only NoCopy is allowed")
    _check_volume(mount.get("Source"), target, read_only, where, settings)
    kept = {"Type": kind, "Source": mount["Source"], "Target": target, "ReadOnly": read_only}
    return {**kept, "VolumeOptions": {"NoCopy": True}} if options.get("NoCopy") else kept


def _check_volume(name: Any, target: str, read_only: bool, where: str, settings: BrokerSettings) -> None:
    rule = settings.volumes.get(name) if isinstance(name, str) else None
    if rule is None:
        allowed = ", ".join(settings.volumes) or "none"
        raise RefusedError(Rule.MOUNTS, f"{where} has {shown(name)}", f"must be a volume on the list ({allowed})")
    if target != rule.target:
        raise RefusedError(Rule.MOUNTS, f"{where} has {name} at {shown(target)}", f"must be at {rule.target}")
    if rule.read_only and not read_only:
        raise RefusedError(Rule.MOUNTS, f"{where} has {name} writable", "must be read-only")


def _tmpfs_options(mount: dict[str, Any], target: str, where: str) -> dict[str, int]:
    _check_tmpfs_target(target, where)
    options = mount.get("TmpfsOptions") or {}
    size = options.get("SizeBytes") if isinstance(options, dict) else None
    if type(size) is not int or size < 1 or set(options) - {"SizeBytes", "Mode"}:
        raise RefusedError(
            Rule.MOUNTS, f"{where} has TmpfsOptions {shown(options)}", "must have SizeBytes, may have Mode"
        )
    mode = options.get("Mode", 0o700)
    if type(mode) is not int or not 0 <= mode <= 0o1777:
        raise RefusedError(Rule.MOUNTS, f"{where} has tmpfs mode {shown(mode)}", "must be at most 1777 (octal)")
    return {"SizeBytes": size, "Mode": mode}


def check_tmpfs(value: Any, where: str, settings: BrokerSettings) -> dict[str, str]:
    """`{path: options}` where the options give a size and take nothing back that Docker sets (noexec, nosuid, nodev).

    Raises:
        RefusedError: rule `mounts`.
    """
    if not isinstance(value, dict) or not all(isinstance(options, str) for options in value.values()):
        raise RefusedError(Rule.MOUNTS, f"{where} is {shown(value)}", "must be an object of texts")
    for target, options in value.items():
        _check_tmpfs_target(target, where)
        words = options.split(",")
        sizes = [word for word in words if word.startswith("size=")]
        others = [word for word in words if word not in sizes and word not in _TMPFS_FLAGS]
        if len(sizes) != 1 or not _SIZE.fullmatch(sizes[0][5:]) or not all(map(_TMPFS_NUMBERS.fullmatch, others)):
            expected = "must be size=BYTES[kmg], may add mode, uid, gid, rw, noexec, nosuid, nodev"
            raise RefusedError(Rule.MOUNTS, f"{where} has {target} with {shown(options)}", expected)
    return value


def _check_tmpfs_target(target: str, where: str) -> None:
    kernel = target != "/dev/shm" and any(f"{target}/".startswith(f"{path}/") for path in _KERNEL_PATHS)
    if not is_plain_path(target) or kernel:
        raise RefusedError(
            Rule.MOUNTS, f"{where} has tmpfs at {shown(target)}", "must be a plain path, not of the kernel"
        )


def check_together(host: dict[str, Any]) -> None:
    """Nothing is mounted twice at one place, and all tmpfs together fit into the container's memory.

    Raises:
        RefusedError: rule `mounts`.
    """
    mounts = host.get("Mounts", [])
    targets = [bind.split(":")[1] for bind in host.get("Binds", [])]
    targets += [*(mount["Target"] for mount in mounts), *host.get("Tmpfs", {})]
    if twice := sorted(target for target in set(targets) if targets.count(target) > 1):
        raise RefusedError(Rule.MOUNTS, f"{twice[0]} is mounted twice", "must be mounted once")
    size = sum(mount["TmpfsOptions"]["SizeBytes"] for mount in mounts if mount["Type"] == "tmpfs")
    size += sum(_tmpfs_bytes(options) for options in host.get("Tmpfs", {}).values())
    if size > host["Memory"]:
        raise RefusedError(Rule.MOUNTS, f"tmpfs of {size} bytes", f"must fit into HostConfig.Memory, {host['Memory']}")


def _tmpfs_bytes(options: str) -> int:
    number, unit = next(_SIZE.fullmatch(word[5:]).groups() for word in options.split(",") if word.startswith("size="))  # type: ignore[union-attr]
    return int(number) * _UNIT[unit.lower()]
