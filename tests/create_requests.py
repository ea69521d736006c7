"""Create requests as docker-py sends them for a trainer, and the hostile changes to one that must be refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import docker
from docker.types import DeviceRequest, LogConfig, Mount

from evergreen.settings.broker import BrokerSettings, VolumeRule

IMAGE = "evergreen/trainer:0.1.0"
SETS, TRAINED = "/var/lib/evergreen/training_sets", "/var/lib/evergreen/models/trained"
MIB = 2**20


def broker_settings(**changes: Any) -> BrokerSettings:
    """A policy for one image and two volumes."""
    values: dict[str, Any] = {
        "images": (IMAGE,),
        "volumes": {
            "evergreen_training_sets": VolumeRule(target=SETS, read_only=True),
            "evergreen_trained": VolumeRule(target=TRAINED, read_only=False),
        },
        "max_memory_gib": 2,
        "max_cpus": 2,
        "max_pids": 512,
    }
    return BrokerSettings(**{**values, **changes})


def create(client: docker.APIClient, **changes: Any) -> dict[str, Any]:
    """Asks for a trainer's container; `changes` go to docker-py's own host configuration, or override the rest."""
    config: dict[str, Any] = {
        "image": IMAGE,
        "entrypoint": ["python", "-u", "-m", "evergreen.jobs.train"],
        "command": ["--spec", f"{TRAINED}/attempt/spec.json"],
        "user": "50000:50000",
        "labels": {"evergreen.part": "trainer", "evergreen.dag_id": "train_candidates", "evergreen.try_number": "1"},
        "environment": {"HOME": "/tmp"},
        "stop_signal": "SIGKILL",
    }
    host: dict[str, Any] = {
        "mounts": [
            Mount(SETS, "evergreen_training_sets", read_only=True),
            Mount(TRAINED, "evergreen_trained", read_only=False),
        ],
        "network_mode": "none",
        "read_only": True,
        "tmpfs": {"/tmp": f"rw,noexec,nosuid,nodev,size={64 * MIB}"},
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "mem_limit": 512 * MIB,
        "memswap_limit": 512 * MIB,
        "nano_cpus": 1_000_000_000,
        "pids_limit": 128,
        "shm_size": 64 * MIB,
        "log_config": LogConfig(config={"max-size": "10m"}),
    }
    for name, value in changes.items():
        (config if name in config or name in CONFIG_NAMES else host)[name] = value
    made: dict[str, Any] = client.create_container(host_config=client.create_host_config(**host), **config)
    return made


CONFIG_NAMES = {"name", "hostname", "working_dir", "tty", "volumes", "ports", "healthcheck", "runtime"}


class _Recorder(docker.APIClient):
    """docker-py's client up to the point where it would send."""

    def _post_json(self, url: str, data: Any, **kwargs: Any) -> Any:
        self.sent = {key: value for key, value in data.items() if value is not None}  # as the original does
        return None

    def _result(self, *args: Any, **kwargs: Any) -> Any:
        return {"Id": "", "Warnings": []}


def recorded(**changes: Any) -> dict[str, Any]:
    """The body that docker-py sends for `create`."""
    client = _Recorder(base_url="tcp://127.0.0.1:1", version="1.41")
    create(client, **changes)
    body: dict[str, Any] = json.loads(json.dumps(client.sent))
    return body


def with_change(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of a body in which one value, named by dots, is set (`...`: taken away)."""
    changed = copy.deepcopy(body)
    *folders, last = path.split(".")
    place: Any = changed
    for name in folders:
        place = place[int(name) if isinstance(place, list) else name]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return changed


def bind(*lines: str) -> tuple[str, list[str]]:
    return "HostConfig.Binds", list(lines)


def mount(**values: Any) -> tuple[str, list[dict[str, Any]]]:
    return "HostConfig.Mounts", [{"Type": "volume", "ReadOnly": True, **values}]


# Rule, then the change. Each is a single change to the good body.
HOSTILE: list[tuple[str, str, Any]] = [
    ("privileged", "HostConfig.Privileged", True),
    ("namespaces", "HostConfig.PidMode", "host"),
    ("namespaces", "HostConfig.PidMode", "container:other"),
    ("namespaces", "HostConfig.IpcMode", "host"),
    ("namespaces", "HostConfig.IpcMode", "shareable"),
    ("namespaces", "HostConfig.UTSMode", "host"),
    ("namespaces", "HostConfig.UsernsMode", "host"),
    ("namespaces", "HostConfig.CgroupnsMode", "host"),
    ("network", "HostConfig.NetworkMode", "host"),
    ("network", "HostConfig.NetworkMode", "default"),
    ("network", "HostConfig.NetworkMode", "container:other"),
    ("network", "HostConfig.NetworkMode", ...),
    ("network", "HostConfig.PortBindings", {"80/tcp": [{"HostPort": "80"}]}),
    ("network", "HostConfig.PublishAllPorts", True),
    ("network", "HostConfig.Links", ["postgres:db"]),
    ("network", "HostConfig.ExtraHosts", ["a:1.2.3.4"]),
    ("network", "HostConfig.Dns", ["1.2.3.4"]),
    ("network", "NetworkingConfig", {"EndpointsConfig": {"bridge": {}}}),
    ("network", "ExposedPorts", {"80/tcp": {}}),
    ("capabilities", "HostConfig.CapAdd", ["SYS_ADMIN"]),
    ("capabilities", "HostConfig.CapDrop", ["NET_RAW"]),
    ("capabilities", "HostConfig.CapDrop", ...),
    ("read-only-root", "HostConfig.ReadonlyRootfs", False),
    ("read-only-root", "HostConfig.ReadonlyRootfs", ...),
    ("security-options", "HostConfig.SecurityOpt", ["no-new-privileges", "seccomp=unconfined"]),
    ("security-options", "HostConfig.SecurityOpt", ["no-new-privileges", "apparmor=unconfined"]),
    ("security-options", "HostConfig.SecurityOpt", ["no-new-privileges", "label=disable"]),
    ("security-options", "HostConfig.SecurityOpt", ["no-new-privileges", "systempaths=unconfined"]),
    ("security-options", "HostConfig.SecurityOpt", ["no-new-privileges:false"]),
    ("security-options", "HostConfig.SecurityOpt", []),
    ("security-options", "HostConfig.SecurityOpt", ...),
    ("security-options", "HostConfig.MaskedPaths", []),
    ("security-options", "HostConfig.ReadonlyPaths", []),
    ("devices", "HostConfig.Devices", [{"PathOnHost": "/dev/sda", "PathInContainer": "/dev/sda"}]),
    ("devices", "HostConfig.DeviceCgroupRules", ["a *:* rwm"]),
    ("devices", "HostConfig.DeviceRequests", [{"Count": -1, "Capabilities": [["gpu"]]}]),
    ("mounts", *bind("/:/host")),
    ("mounts", *bind("/var/run/docker.sock:/var/run/docker.sock")),
    ("mounts", *bind("../../etc:/var/lib/evergreen/training_sets:ro")),
    ("mounts", *bind("./evergreen_training_sets:/var/lib/evergreen/training_sets:ro")),
    ("mounts", *bind("evergreen_training_sets/../x:/var/lib/evergreen/training_sets:ro")),
    ("mounts", *bind("evergreen_home:/var/lib/evergreen")),
    ("mounts", *bind("evergreen_training_sets:/var/lib/evergreen/training_sets/:ro")),
    ("mounts", *bind("evergreen_training_sets:/etc:ro")),
    ("mounts", *bind("evergreen_training_sets:/var/lib/evergreen/training_sets")),
    ("mounts", *bind("evergreen_training_sets:/var/lib/evergreen/training_sets:rw")),
    ("mounts", *bind("evergreen_training_sets:/var/lib/evergreen/training_sets:ro,rshared")),
    ("mounts", *mount(Type="bind", Source="/", Target="/host")),
    ("mounts", *mount(Type="bind", Source="evergreen_training_sets", Target=SETS)),
    ("mounts", *mount(Type="npipe", Source="evergreen_training_sets", Target=SETS)),
    ("mounts", *mount(Source="evergreen_training_sets", Target=SETS, ReadOnly=False)),
    ("mounts", *mount(Source="evergreen_training_sets", Target="/etc")),
    ("mounts", *mount(Source="postgres_data", Target=SETS)),
    ("mounts", *mount(Source="/etc", Target=SETS)),
    ("mounts", *mount(Source="", Target=SETS)),
    ("mounts", *mount(Target=SETS)),
    ("mounts", *mount(Source="evergreen_training_sets", Target=SETS, VolumeOptions={"Subpath": "../x"})),
    (
        "mounts",
        *mount(
            Source="evergreen_training_sets",
            Target=SETS,
            VolumeOptions={"DriverConfig": {"Name": "local", "Options": {"type": "none", "o": "bind", "device": "/"}}},
        ),
    ),
    ("keys", *mount(Source="evergreen_training_sets", Target=SETS, BindOptions={"Propagation": "rshared"})),
    ("mounts", *mount(Type="tmpfs", Target="/scratch")),
    ("mounts", *mount(Type="tmpfs", Target="/proc", TmpfsOptions={"SizeBytes": 1})),
    ("mounts", *mount(Type="tmpfs", Target="/scratch", TmpfsOptions={"SizeBytes": 2**40})),
    ("mounts", "HostConfig.Tmpfs", {"/tmp": ""}),
    ("mounts", "HostConfig.Tmpfs", {"/tmp": "size=1g"}),
    ("mounts", "HostConfig.Tmpfs", {"/tmp": "size=1m,exec"}),
    ("mounts", "HostConfig.Tmpfs", {"/tmp": "size=1m,size=1t"}),
    ("mounts", "HostConfig.Tmpfs", {"/sys/fs": "size=1m"}),
    ("mounts", "HostConfig.Tmpfs", {SETS: "size=1m"}),
    ("mounts", "HostConfig.VolumesFrom", ["postgres"]),
    ("mounts", "HostConfig.VolumeDriver", "sshfs"),
    ("mounts", "Volumes", {"/data": {}}),
    ("mounts", "WorkingDir", "/tmp/../etc"),
    ("memory", "HostConfig.Memory", ...),
    ("memory", "HostConfig.Memory", 0),
    ("memory", "HostConfig.Memory", 2**40),
    ("memory", "HostConfig.Memory", 1e9),
    ("memory", "HostConfig.Memory", True),
    ("memory", "HostConfig.MemorySwap", -1),
    ("memory", "HostConfig.ShmSize", 2**30),
    ("cpus", "HostConfig.NanoCpus", ...),
    ("cpus", "HostConfig.NanoCpus", 64_000_000_000),
    ("cpus", "HostConfig.CpuQuota", 1),
    ("pids", "HostConfig.PidsLimit", ...),
    ("pids", "HostConfig.PidsLimit", -1),
    ("pids", "HostConfig.PidsLimit", 100_000),
    ("user", "User", ...),
    ("user", "User", ""),
    ("user", "User", "root"),
    ("user", "User", "0"),
    ("user", "User", "50000:0"),
    ("user", "User", "00"),
    ("user", "User", "4294967296"),
    ("user", "HostConfig.GroupAdd", ["docker"]),
    ("host", "HostConfig.Sysctls", {"kernel.msgmax": "1"}),
    ("host", "HostConfig.CgroupParent", "/"),
    ("host", "HostConfig.Runtime", "nvidia"),
    ("host", "Runtime", "nvidia"),
    ("host", "HostConfig.OomScoreAdj", -1000),
    ("host", "HostConfig.OomKillDisable", True),
    ("host", "HostConfig.Ulimits", [{"Name": "nofile", "Soft": 1, "Hard": 2**30}]),
    ("lifecycle", "HostConfig.RestartPolicy", {"Name": "always"}),
    ("lifecycle", "HostConfig.AutoRemove", True),
    ("lifecycle", "OpenStdin", True),
    ("log", "HostConfig.LogConfig", {"Type": "syslog", "Config": {}}),
    ("log", "HostConfig.LogConfig", {"Type": "", "Config": {"max-size": "900g"}}),
    ("labels", "Labels", {}),
    ("labels", "Labels", ...),
    ("labels", "Labels", {"evergreen.part": "postgres"}),
    ("labels", "Labels", {"evergreen.part": "trainer", "evergreen.broker": "another"}),
    ("labels", "Labels", {"evergreen.part": "trainer", "com.docker.compose.project": "evergreen"}),
    ("environment", "Env", ["NVIDIA_VISIBLE_DEVICES=all"]),
    ("environment", "Env", ["LD_PRELOAD=/proc/self/cwd/x.so"]),
    ("keys", "HostConfig.privileged", True),
    ("body", "hostconfig", {"Privileged": True}),  # beside HostConfig
    ("keys", "HostConfig.SomethingNew", True),
    ("keys", "Memory", 1),
    ("keys", "OnBuild", ["RUN true"]),
    ("body", "HostConfig", []),
    ("body", "Cmd", "sh -c true"),
]  # fmt: skip


def gpu_request() -> DeviceRequest:
    """A GPU, as the operator asks for one."""
    return DeviceRequest(device_ids=["0"], capabilities=[["gpu"]])


def wait_until(happened: Callable[[], bool], seconds: float) -> bool:
    """True as soon as it happened, False when the time is up."""
    from time import monotonic, sleep

    end = monotonic() + seconds
    while not happened():
        if monotonic() > end:
            return False
        sleep(0.05)
    return True
