"""What a machine must have: each refusal is one line, and a machine that has everything is not refused."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from evergreen.deploy.checks import GIB, Machine, check_disk, check_gpu, check_memory, check_port, refuse
from evergreen.deploy.engine import Engine
from evergreen.errors import DeployError

GOOD = Machine(100 * GIB, 32 * GIB, ("runc", "nvidia"), Path("/"))
POOR = Machine(2 * GIB, 4 * GIB, ("runc",), Path("/data"))

CHECKS: list[tuple[Callable[[Machine], str | None], str]] = [
    (check_disk, "2.0 GiB are free on the disk of /data, must be 15"),
    (check_memory, "4.0 GiB of memory, must be 12"),
    (partial(check_gpu, wanted="on"), "no NVIDIA runtime (it has: runc)"),
]


@pytest.mark.parametrize(("check", "told"), CHECKS)
def test_what_is_missing_is_said_in_one_line(check: Callable[[Machine], str | None], told: str) -> None:
    assert check(GOOD) is None
    reason = check(POOR)
    assert reason is not None
    assert told in reason
    assert "\n" not in reason


@pytest.mark.parametrize("wanted", ["auto", "off"])
def test_a_gpu_that_is_not_demanded_is_not_missed(wanted: str) -> None:
    assert check_gpu(POOR, wanted) is None


def test_a_taken_port_is_named_with_the_setting() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        reason = check_port("127.0.0.1", port, "EVERGREEN_AIRFLOW_PORT")
        assert reason is not None
        assert f"port {port} of 127.0.0.1 cannot be taken" in reason
        assert reason.endswith("or set EVERGREEN_AIRFLOW_PORT")
    assert check_port("127.0.0.1", port, "EVERGREEN_AIRFLOW_PORT") is None


def test_the_first_that_does_not_hold_decides() -> None:
    asked = []

    def check(name: str, answer: str | None) -> str | None:
        asked.append(name)
        return answer

    with pytest.raises(DeployError, match=r"^second$"):
        refuse([partial(check, "a", None), partial(check, "b", "second"), partial(check, "c", "third")])
    assert asked == ["a", "b"]


def engine_that_says(tmp_path: Path, output: str, code: int = 0) -> Engine:
    docker = tmp_path / "docker"
    stream = ">&2" if code else ""
    docker.write_text(f"#!/bin/sh\necho '{output}' {stream}\nexit {code}\n")
    docker.chmod(0o755)
    return Engine(str(docker), (str(docker), "compose"))


@pytest.mark.parametrize("version", ["20.10.24+dfsg1", "28.2.2", "27.0.1-rc.1"])
def test_engines_that_will_do(tmp_path: Path, version: str) -> None:
    assert engine_that_says(tmp_path, version).version() == version


def test_an_old_engine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match=r"^the Docker engine is 19\.03\.5, must be 20\.10 or newer$"):
        engine_that_says(tmp_path, "19.03.5").version()


def test_no_engine_is_said_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match=r"^no Docker engine answers: Cannot connect$"):
        engine_that_says(tmp_path, "Cannot connect", code=1).version()
