"""Every container of a running deployment, as the engine sees it. Skipped where none runs: `./evergreen deploy`."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from evergreen.deploy.engine import LASTING, PROJECT_LABEL, SERVICE_LABEL, Engine
from evergreen.deploy.inspection import EXCEPTIONS, inspect
from evergreen.deploy.secrets import DERIVED, GENERATED
from evergreen.deploy.stack import Options, Stack
from evergreen.errors import DeployError

ENVIRONMENTS = {"evergreen": "production", "evergreen-staging": "staging"}

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def engine() -> Engine:
    try:
        return Engine.find()
    except DeployError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def project(request: pytest.FixtureRequest, engine: Engine) -> str:
    if not engine.containers(f"{PROJECT_LABEL}={request.param}", LASTING):
        pytest.skip(f"no {ENVIRONMENTS[request.param]} deployment runs here: ./evergreen deploy")
    return str(request.param)


@pytest.fixture(scope="module")
def containers(engine: Engine, project: str) -> dict[str, dict[str, Any]]:
    found = engine.containers(f"{PROJECT_LABEL}={project}", LASTING)
    return {container["Config"]["Labels"][SERVICE_LABEL]: container for container in found}


def test_each_is_confined(engine: Engine, project: str) -> None:
    found = inspect(engine, project)
    assert {one.service: one.problems for one in found if one.problems} == {}
    assert {one.service for one in found if one.exception} <= set(EXCEPTIONS)
    assert all(one.user == "50000:50000" for one in found if one.service not in (*EXCEPTIONS, "grafana", "prometheus"))


def test_sparks_master_listens_for_its_own_alone(engine: Engine, containers: dict[str, dict[str, Any]]) -> None:
    code = "print(*sorted({int(l.split()[1].split(':')[1], 16) for f in ('tcp', 'tcp6') for l in open('/proc/net/' + f)"
    code += " if l.split()[3] == '0A'}))"
    ports = engine.run_in(containers["spark-master"]["Id"], ["python", "-c", code]).split()
    assert {"7077", "8081"} <= set(ports)
    assert "6066" not in ports


def test_no_secret_stands_in_an_environment_or_a_command(project: str, containers: dict[str, dict[str, Any]]) -> None:
    secrets = Stack(Options(ENVIRONMENTS[project]), Engine("docker", ())).secrets
    if not secrets.complete:
        pytest.skip(f"its secrets are not in {secrets.folder}: it was deployed from elsewhere")
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
