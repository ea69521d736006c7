"""Every container of a running deployment, as the engine sees it. Skipped where none runs: `./evergreen deploy`."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from evergreen.deploy.engine import PROJECT_LABEL, SERVICE_LABEL, Engine
from evergreen.deploy.secrets import DERIVED, GENERATED
from evergreen.deploy.stack import Options, Stack
from evergreen.errors import DeployError
from tests.unit.deploy.test_compose_file import STARTS_AS_ROOT

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def engine() -> Engine:
    try:
        return Engine.find()
    except DeployError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def containers(engine: Engine) -> dict[str, dict[str, Any]]:
    listed = subprocess.run(
        [engine.docker, "ps", "-q", "--filter", f"label={PROJECT_LABEL}=evergreen"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    if not listed:
        pytest.skip("no deployment runs here: ./evergreen deploy")
    told = subprocess.run([engine.docker, "inspect", *listed], capture_output=True, text=True, check=True).stdout
    return {container["Config"]["Labels"][SERVICE_LABEL]: container for container in json.loads(told)}


def test_each_is_confined(containers: dict[str, dict[str, Any]]) -> None:
    for name, container in containers.items():
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert set(host["CapAdd"] or ()) == STARTS_AS_ROOT.get(name, set()), name
        assert host["SecurityOpt"] == ["no-new-privileges:true"], name
        assert host["Memory"] > 0, name
        assert host["PidsLimit"] > 0, name
        assert not host["Privileged"], name
        assert (container["Config"]["User"] == "50000:50000") is (name not in STARTS_AS_ROOT), name


def test_no_process_runs_as_root_but_postgres_first_one(engine: Engine, containers: dict[str, dict[str, Any]]) -> None:
    for name, container in containers.items():
        listed = subprocess.run(
            [engine.docker, "top", container["Id"], "-eo", "pid,user,args"], capture_output=True, text=True, check=True
        ).stdout.splitlines()[1:]
        roots = [line for line in listed if line.split()[1] == "root"]
        assert len(roots) <= (1 if name == "postgres" else 0), f"{name}: {roots}"


def test_no_secret_stands_in_an_environment_or_a_command(containers: dict[str, dict[str, Any]]) -> None:
    secrets = Stack(Options(), Engine("docker", ())).secrets
    values = {secrets.read(name) for name in (*GENERATED, *DERIVED)}
    for name, container in containers.items():
        text = json.dumps([container["Config"], container["Args"]])
        assert [value[:3] for value in values if value in text] == [], name


def test_the_broker_alone_has_the_engines_socket(containers: dict[str, dict[str, Any]]) -> None:
    having = {
        name
        for name, container in containers.items()
        if any("docker.sock" in mount["Source"] for mount in container["Mounts"])
    }
    assert having == {"broker"}


def test_workers_cannot_reach_the_world(engine: Engine, containers: dict[str, dict[str, Any]]) -> None:
    """Closed networks have no way out. The API server, on the published network, is the control."""
    code = "import socket; socket.create_connection(('1.1.1.1', 443), timeout=4).close()"

    def reaches(name: str) -> bool:
        command = [engine.docker, "exec", containers[name]["Id"], "python", "-c", code]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    if not reaches("api-server"):
        pytest.skip("not even a container of the open network reaches the world from here")
    assert not any(reaches(name) for name in ("worker", "spark-worker-1", "mlflow", "scheduler", "broker"))
