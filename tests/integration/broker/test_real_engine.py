"""The broker before a real engine: hostile requests that the engine itself takes, ways round it, and killed workers."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import docker
import pytest
import yaml
from airflow.providers.docker.hooks.docker import DockerHook
from docker.errors import APIError, NotFound
from docker.types import Mount

from evergreen.promotion.ledger import Ledger
from evergreen.settings import Settings
from evergreen.training.dataset import TrainingSet
from evergreen.training.provenance import code_digest
from evergreen_airflow.operators.container import TrainContainerOperator
from tests.create_requests import SETS, TRAINED, create, recorded, wait_until, with_change

pytestmark = pytest.mark.docker

BASE = "python:3.11-slim-bookworm"
SOCKET = Path("/var/run/docker.sock")
WAIT = ["python", "-c", "import time; print('waiting', flush=True); time.sleep(300)"]


class Place:
    """An engine, a broker before it, and what a test needs at the engine."""

    def __init__(self, home: Path) -> None:
        self.name = f"eg-broker-{uuid4().hex[:8]}"
        self.home = home
        self.engine = docker.APIClient(f"unix://{SOCKET}")
        self.image = f"{self.name}:1"
        self.sets, self.trained = f"{self.name}-sets", f"{self.name}-trained"
        self.engine.tag(BASE, self.name, "1")
        for volume in (self.sets, self.trained):
            self.engine.create_volume(volume)
        self.broker: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def client(self) -> docker.APIClient:
        return docker.APIClient(self.url, timeout=30)

    def start_broker(self, **changes: Any) -> None:
        values = {
            "name": self.name,
            "port": self.port,
            "socket": str(SOCKET),
            "images": [self.image],
            "volumes": {
                self.sets: {"target": SETS, "read_only": True},
                self.trained: {"target": TRAINED, "read_only": False},
            },
            **changes,
        }
        given = {f"EVERGREEN__BROKER__{name.upper()}": yaml.safe_dump(value) for name, value in values.items()}
        self.broker = subprocess.Popen([sys.executable, "-m", "evergreen.broker"], env={**os.environ, **given})
        assert wait_until(self.is_healthy, 60)

    def is_healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/_broker/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def kill_broker(self, number: int = signal.SIGTERM) -> int:
        assert self.broker is not None
        self.broker.send_signal(number)
        return self.broker.wait(20)

    def trainer(self, client: docker.APIClient, **changes: Any) -> str:
        """Asks for a container that fits this place's policy, but for `changes`."""
        mounts = [Mount(SETS, self.sets, read_only=True), Mount(TRAINED, self.trained)]
        values = {"image": self.image, "mounts": mounts, "entrypoint": [], "command": WAIT, **changes}
        return str(create(client, **values)["Id"])

    def clean(self) -> None:
        if self.broker is not None and self.broker.poll() is None:
            self.kill_broker()
        for container in self.engine.containers(all=True):
            if container["Labels"].get("evergreen.broker") == self.name or self.name in container["Names"][0]:
                self.engine.remove_container(container["Id"], force=True)
        for volume in (self.sets, self.trained):
            self.engine.remove_volume(volume, force=True)
        for image in self.engine.images(name=self.name):
            for tag in image["RepoTags"]:
                self.engine.remove_image(tag)


@pytest.fixture
def bare(home: Path) -> Iterator[Place]:
    """A place whose broker is not started yet."""
    place = Place(home)
    yield place
    place.clean()


@pytest.fixture
def place(bare: Place) -> Place:
    bare.start_broker()
    return bare


def is_there(place: Place, container: str) -> bool:
    try:
        place.engine.inspect_container(container)
    except NotFound:
        return False
    return True


FIVE: dict[str, tuple[str, dict[str, Any]]] = {
    "privileged": ("privileged", {"privileged": True}),
    "bind of the root": ("mounts", {"binds": ["/:/host"]}),
    "the host's processes": ("namespaces", {"pid_mode": "host"}),
    "an added capability": ("capabilities", {"cap_add": ["SYS_ADMIN"]}),
    "a foreign image": ("image", {"image": BASE}),
}


@pytest.mark.fault
@pytest.mark.parametrize("name", FIVE)
def test_a_hostile_request_is_refused_and_the_engine_itself_would_take_it(place: Place, name: str) -> None:
    rule, change = FIVE[name]
    with pytest.raises(APIError, match=f"{rule}: ") as caught:
        place.trainer(place.client, **change)
    assert caught.value.status_code == 403
    assert place.client.containers(all=True) == []
    place.trainer(place.engine, name=f"{place.name}-control", **change)  # control: the engine has nothing against it
    assert is_there(place, place.trainer(place.client)), "control: without the change the broker has nothing against it"


@pytest.mark.fault
def test_refusals_stand_in_the_ledger(place: Place, settings: Settings) -> None:
    for _, change in FIVE.values():
        with pytest.raises(APIError):
            place.trainer(place.client, **change)
    assert place.kill_broker() == 0
    ledger = Ledger(settings)
    assert ledger.verify().intact
    entries = [sealed.entry for sealed in ledger.entries()]
    assert [entry.resources_affected[0] for entry in entries] == [f"rule:{rule}" for rule, _ in FIVE.values()]
    assert {entry.operation for entry in entries} == {"refuse_container_request"}


@pytest.mark.fault
def test_a_rename_does_not_get_round_it(place: Place) -> None:
    """Neither of a container, nor of a foreign one that would be called like ours."""
    ours = place.trainer(place.client)
    with pytest.raises(APIError, match="path: "):
        place.client.rename(ours, "postgres")
    other = place.engine.create_container(BASE, WAIT, name=f"{place.name}-other")["Id"]
    for call in (place.client.start, place.client.inspect_container, place.client.kill, place.client.remove_container):
        with pytest.raises(APIError, match="owner: "):
            call(f"{place.name}-other")
    assert place.engine.inspect_container(other)["State"]["Status"] == "created"
    place.engine.rename(other, f"{place.name}-again")
    with pytest.raises(APIError, match="owner: "):
        place.client.start(f"{place.name}-again")


@pytest.mark.fault
def test_a_moved_tag_does_not_get_round_it(place: Place) -> None:
    """A foreign image under the allowed name is refused; moved back, the name is good again (control)."""
    foreign = place.engine.commit(place.engine.create_container(BASE, ["true"], name=f"{place.name}-base")["Id"])["Id"]
    place.engine.tag(foreign, place.name, "1", force=True)
    with pytest.raises(APIError, match=r"image: .* now names"):
        place.trainer(place.client)
    with pytest.raises(APIError, match="image: "):
        place.trainer(place.client, image=foreign)
    place.engine.tag(BASE, place.name, "1", force=True)
    place.engine.remove_image(foreign)
    container = place.trainer(place.client)
    assert place.engine.inspect_container(container)["Image"] == place.engine.inspect_image(BASE)["Id"]


@pytest.mark.fault
def test_links_and_relative_paths_do_not_get_round_it(place: Place, tmp_path: Path) -> None:
    link = tmp_path / place.sets
    link.symlink_to("/")
    for source in (str(link), f"../../../..{link}", f"./{place.sets}", f"{place.sets}/../..", f"/proc/self/root{link}"):
        with pytest.raises(APIError, match="mounts: "):
            place.trainer(place.client, mounts=[], binds=[f"{source}:{SETS}:ro"])
        with pytest.raises(APIError, match="mounts: "):
            place.trainer(place.client, mounts=[Mount(SETS, source, "bind", read_only=True)])
    place.trainer(place.client, mounts=[], binds=[f"{place.sets}:{SETS}:ro"])  # control


@pytest.mark.fault
@pytest.mark.parametrize("name", ["privileged", "PRIVILEGED", "Privileged"])
def test_names_in_another_case_mean_the_same_to_the_engine(place: Place, name: str) -> None:
    """Why the policy compares spellings: to the engine all of these are `Privileged`."""
    body = with_change(recorded(image=BASE, mounts=[], command=WAIT, entrypoint=[]), f"HostConfig.{name}", True)
    made = place.engine.post(f"{place.engine.base_url}/v1.41/containers/create?name={place.name}-case", json=body)
    assert made.status_code == 201, made.text
    assert place.engine.inspect_container(made.json()["Id"])["HostConfig"]["Privileged"] is True
    mine = {**body, "Image": place.image}
    connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=10)
    connection.request("POST", "/v1.41/containers/create", json.dumps(mine), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["message"].split(":")[0] in ("keys", "privileged")) == (403, True)


SCRIPT = f"""
import os, pathlib
print('user', os.getuid(), os.getgid())
print('capabilities', [line.split()[1] for line in open('/proc/self/status') if line.startswith('CapEff')][0])
print('no new privileges', [line.split()[1] for line in open('/proc/self/status') if line.startswith('NoNewPrivs')][0])
print('interfaces', sorted(os.listdir('/sys/class/net')))
for place in ('/', '/etc', {SETS!r}, '/tmp'):
    try:
        pathlib.Path(place, 'x').write_text('x')
        print('wrote', place)
    except OSError as error:
        print('no', place)
print('{{"done": true}}')
"""


@pytest.mark.parametrize("way", ["docker-py", "the operator's hook"])
def test_a_good_container_runs_to_its_end(place: Place, way: str) -> None:
    hook = DockerHook(docker_conn_id=None, base_url=place.url)
    client = place.client if way == "docker-py" else hook.api_client
    assert client.images(name=place.image)
    container = place.trainer(client, command=["python", "-c", SCRIPT])
    stream = client.attach(container, stdout=True, stderr=True, stream=True)
    client.start(container)
    lines = b"".join(stream).decode().splitlines()
    assert client.wait(container)["StatusCode"] == 0
    assert lines == [
        "user 50000 50000",
        "capabilities 0000000000000000",
        "no new privileges 1",
        "interfaces ['lo']",
        "no /",
        "no /etc",
        f"no {SETS}",
        "wrote /tmp",
        '{"done": true}',
    ]
    assert client.logs(container).decode().splitlines() == lines
    host = place.engine.inspect_container(container)["HostConfig"]
    assert (host["Memory"], host["PidsLimit"], host["NanoCpus"]) == (512 * 2**20, 128, 10**9)
    assert host["LogConfig"]["Config"]["max-size"] == "10m"
    assert [one["Id"] for one in client.containers(all=True)] == [container]
    client.remove_container(container, force=True)
    assert not is_there(place, container)


WORKER = """
import sys
import docker
client = docker.APIClient(sys.argv[1], timeout=30)
container = sys.argv[2]
stream = client.attach(container, stdout=True, stderr=True, stream=True)
client.start(container)
for line in stream:
    print(line.decode(), end="", flush=True)
"""


@pytest.fixture
def worker(place: Place) -> Iterator[Callable[[], tuple[subprocess.Popen[str], str]]]:
    """Starts a process that follows a running container, as a task does."""
    started: list[subprocess.Popen[str]] = []

    def start() -> tuple[subprocess.Popen[str], str]:
        container = place.trainer(place.client)
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, place.url, container], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        return process, container

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.fault
def test_a_killed_worker_leaves_no_container(
    place: Place, worker: Callable[[], tuple[subprocess.Popen[str], str]], settings: Settings
) -> None:
    """Within 60 seconds. The control's worker lives, and so does its container."""
    killed, orphan = worker()
    alive, followed = worker()
    killed.kill()
    began = monotonic()
    assert wait_until(lambda: not is_there(place, orphan), 60)
    print(f"gone after {monotonic() - began:.1f} s")
    assert place.engine.inspect_container(followed)["State"]["Running"]
    assert alive.poll() is None
    assert wait_until(lambda: "end_orphan_container" in [one.entry.operation for one in Ledger(settings).entries()], 10)


FOLLOWER = """
import socket, struct, sys
port, container = sys.argv[1:]
routes = [line.split() for line in open('/proc/net/route')]
gateway = next(int(route[2], 16) for route in routes if route[1] == '00000000')  # the engine's machine
connection = socket.create_connection((socket.inet_ntoa(struct.pack('<L', gateway)), int(port)))
head = f'POST /containers/{container}/attach?stream=1&stdout=1 HTTP/1.1\\r\\nHost: broker\\r\\nContent-Length: 0\\r\\n'
connection.sendall((head + 'Connection: Upgrade\\r\\nUpgrade: tcp\\r\\n\\r\\n').encode())
print('attached', flush=True)
while connection.recv(65536):
    pass
"""
TALK = ["python", "-c", "import time\nwhile True: print('x' * 1000, flush=True); time.sleep(0.2)"]


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.parametrize("command", [WAIT, TALK], ids=["silent", "talkative"])
def test_a_worker_whose_machine_is_gone_leaves_no_container(bare: Place, command: list[str]) -> None:
    """Its network is cut: nothing says goodbye. With output under way other timers of TCP hold than without."""
    bare.start_broker(host="0.0.0.0")
    container = bare.trainer(bare.client, command=command)
    follower = bare.engine.create_container(
        BASE, ["python", "-c", FOLLOWER, str(bare.port), container], name=f"{bare.name}-worker"
    )["Id"]
    bare.engine.start(follower)
    assert wait_until(lambda: b"attached" in bare.engine.logs(follower), 20)
    bare.client.start(container)
    assert not wait_until(lambda: not is_there(bare, container), 13), "control: it is followed"
    bare.engine.disconnect_container_from_network(follower, "bridge")
    began = monotonic()
    assert wait_until(lambda: not is_there(bare, container), 60)
    print(f"gone after {monotonic() - began:.1f} s")


@pytest.mark.fault
def test_a_killed_broker_leaves_no_container(
    place: Place, worker: Callable[[], tuple[subprocess.Popen[str], str]]
) -> None:
    """The next broker adopts what it finds: nobody follows it any more."""
    process, container = worker()
    place.kill_broker(signal.SIGKILL)
    process.wait(20)  # its stream broke off
    assert place.engine.inspect_container(container)["State"]["Running"], "control: nobody else ends it"
    place.start_broker(grace_seconds=2.0)
    assert wait_until(lambda: not is_there(place, container), 30)


def test_a_broker_that_is_told_to_stop_ends_its_trainers(
    place: Place, worker: Callable[[], tuple[subprocess.Popen[str], str]]
) -> None:
    """As `docker compose down` tells it, in the middle of training. The test above is the control."""
    process, container = worker()
    assert place.engine.inspect_container(container)["State"]["Running"]
    began = monotonic()
    assert place.kill_broker() == 0
    print(f"stopped after {monotonic() - began:.1f} s")
    assert not is_there(place, container)
    process.wait(20)


def test_the_operator_trains_through_the_broker(
    bare: Place, filled_training_set: TrainingSet, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that the operator asks for, in named volumes; Python instead of the trainer, which another test runs."""
    folders = {"sets": filled_training_set.folder.parent, "trained": settings.home_path / "models" / "trained"}
    names = {part: f"{bare.name}-{part}-of-shop" for part in folders}
    for part, folder in folders.items():
        folder.mkdir(parents=True, exist_ok=True)
        options = {"type": "none", "o": "bind", "device": str(folder)}
        bare.engine.create_volume(names[part], driver="local", driver_opts=options)
    bare.start_broker(
        volumes={names[part]: {"target": str(folders[part]), "read_only": part == "sets"} for part in folders}
    )
    targets = {str(folders[part]): names[part] for part in folders}
    given = {"image": bare.image, "engine_url": bare.url, "volumes": targets, "memory_gib": 0.25, "cpus": 1}
    for name, value in given.items():
        monkeypatch.setenv(f"EVERGREEN__CONTAINER__{name.upper()}", yaml.safe_dump(value))
    spec = {
        "candidate": "frequency",
        "model": "heuristic",
        "params": {"feature": next(name for name, kind in filled_training_set.features if kind == "number")},
        "seed": 7,
        "training_set": {"folder": str(filled_training_set.folder), "digest": filled_training_set.digest},
        "model_name": "buy-it-again",
    }
    done = json.dumps({"bundle_digest": "none", "code_digest": code_digest()})
    code = f"import os, sys; assert os.path.exists(sys.argv[2]); print({done!r})"
    operator = TrainContainerOperator(task_id="train", spec=spec, entrypoint=["python", "-u", "-c", code])
    ti = SimpleNamespace(dag_id="train_candidates", run_id="r", task_id="train", map_index=0, try_number=1)
    assert operator.execute({"ti": ti, "run_id": "r"})["bundle_digest"] == "none"
    assert bare.client.containers(all=True) == []
    for name in names.values():
        bare.engine.remove_volume(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"socket": "/nowhere/docker.sock"}, "the Docker engine at /nowhere/docker.sock does not answer"),
        ({"images": ["evergreen/trainer"]}, "must be an image with its tag"),
        ({"networks": ["host"]}, "neither 'host' nor 'default'"),
    ],
)
def test_a_broker_that_cannot_work_says_so(bare: Place, change: dict[str, Any], message: str) -> None:
    given = {f"EVERGREEN__BROKER__{name.upper()}": yaml.safe_dump(value) for name, value in change.items()}
    command = [sys.executable, "-m", "evergreen.broker"]
    done = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.startswith("evergreen: ")
    assert done.stderr.count("\n") == 1
