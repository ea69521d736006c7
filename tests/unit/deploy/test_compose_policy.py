"""What workers of docker-compose.yaml ask the broker of docker-compose.yaml for is what that one allows."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from docker.types import Mount

from evergreen.broker.policy import BROKER_LABEL, review_create
from evergreen.broker.refusal import RefusedError
from evergreen.platform.containers import Owner, TaskKey, mounts, user_of, workspace_of
from evergreen.settings import Settings, load_settings
from evergreen.settings import load as load_module
from evergreen.settings.machine import GIB, Machine
from evergreen.settings.tree import PROJECT
from tests.create_requests import gpu_request, recorded

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((PROJECT / "docker-compose.yaml").read_text())["services"]


def filled(text: object, given: dict[str, str]) -> str:
    """Compose's `${NAME:-default}`."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: given.get(found[1]) or found[2], str(text))


def settings_of(service: str, monkeypatch: pytest.MonkeyPatch, **given: str) -> Settings:
    """The settings that a service's own environment gives; secrets are none of them."""
    with monkeypatch.context() as here:
        here.delenv("EVERGREEN_HOME", raising=False)
        for name, value in SERVICES[service]["environment"].items():
            if name.startswith("EVERGREEN_") and not name.endswith("_FILE"):
                here.setenv(name, filled(value, given))
        load_module._load.cache_clear()
        settings = load_settings()
        load_module._load.cache_clear()
    return settings


def request(worker: Settings, **changes: Any) -> bytes:
    """What the operator asks for with a worker's settings."""
    owner = Owner(workspace_of(worker), TaskKey("train_candidates", "r", "train"), 1)
    sets, output = worker.home_path / "training_sets" / "a", worker.home_path / "models" / "trained" / "b"
    limits = worker.container
    body = recorded(
        **{
            "image": limits.image,
            "labels": owner.labels,
            "user": user_of(worker),
            "mounts": [Mount(one.target, one.source, read_only=one.read_only) for one in mounts(worker, sets, output)],
            "network_mode": limits.network,
            "mem_limit": limits.memory_bytes,
            "memswap_limit": limits.memory_bytes,
            "nano_cpus": limits.nano_cpus,
            "pids_limit": limits.pids,
            "shm_size": limits.shm_mib * 2**20,
            "tmpfs": {"/tmp": f"rw,noexec,nosuid,nodev,size={limits.tmp_mib * 2**20}"},
            **changes,
        }
    )
    return json.dumps(body).encode()


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's container, with the limits that docker-compose.yaml gives it."""
    monkeypatch.setattr("evergreen.settings.container.this_machine", lambda: Machine(2, 8 * GIB))


@pytest.mark.parametrize("project", ["evergreen", "evergreen-staging"])
def test_the_broker_allows_what_a_worker_asks_for(project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"COMPOSE_PROJECT_NAME": project, "EVERGREEN_VERSION": "0.1.0-abc"}
    worker, broker = (settings_of(name, monkeypatch, **given) for name in ("worker", "broker"))
    allowed = review_create(request(worker), broker.broker)
    assert allowed["Labels"][BROKER_LABEL] == project, "environments share an engine, and not their containers"
    assert allowed["Image"] in broker.broker.images
    assert {mount["Source"]: mount["ReadOnly"] for mount in allowed["HostConfig"]["Mounts"]} == {
        f"{project}_training_sets": True,
        f"{project}_trained": False,
    }
    assert worker.container.engine_url == f"tcp://broker:{broker.broker.port}"


def test_another_projects_volumes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = settings_of("worker", monkeypatch, COMPOSE_PROJECT_NAME="evergreen-staging")
    with pytest.raises(RefusedError, match="must be a volume on the list"):
        review_create(request(worker), settings_of("broker", monkeypatch).broker)


@pytest.mark.parametrize(("gpus", "allowed"), [("off", "false"), ("auto", "true"), ("on", "true")])
def test_gpus_are_asked_for_and_allowed_together(gpus: str, allowed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"EVERGREEN_GPUS": gpus, "EVERGREEN_BROKER_GPUS": allowed, "EVERGREEN_GPU_SLOTS": "3"}
    worker, broker = (settings_of(name, monkeypatch, **given) for name in ("worker", "broker"))
    assert (worker.container.gpus.value, worker.container.gpu_slots) == (gpus, 3)
    body = request(worker, device_requests=[gpu_request()])
    if gpus == "off":
        with pytest.raises(RefusedError, match="devices"):
            review_create(body, broker.broker)
    else:
        assert review_create(body, broker.broker)["HostConfig"]["DeviceRequests"]
