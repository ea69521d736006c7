"""Training in real containers: the walls, the limits, the ends. Most need any Python image, two the trainer's own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker
import pytest
from airflow.providers.docker.exceptions import DockerContainerFailedException
from docker.errors import APIError

from evergreen import __version__
from evergreen.errors import EvergreenError, PlatformError, TrainingError
from evergreen.models.bundle import load_bundle
from evergreen.platform.containers import Owner, TaskKey, orphans
from evergreen.settings import load_settings
from evergreen.training.dataset import TrainingSet
from evergreen.training.provenance import code_digest
from evergreen_airflow.operators.container import TrainContainerOperator
from evergreen_airflow.operators.training import TrainProcessOperator

pytestmark = pytest.mark.docker

PYTHON = "python:3.11-slim-bookworm"
TRAINER = f"evergreen/trainer:{__version__}"
ALL_DONE = "import json; print(json.dumps({'bundle_digest': 'none', 'code_digest': %r}))" % code_digest()  # noqa: UP031
WAIT = "import time; print('waiting', flush=True); time.sleep(120)"


@pytest.fixture
def engine() -> Iterator[docker.APIClient]:
    client = docker.APIClient()
    yield client
    for left in _ours(client):
        client.remove_container(left["Id"], force=True)


@pytest.fixture
def needs() -> Callable[[str], None]:
    def image(name: str) -> None:
        found = subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False)
        if found.returncode:
            pytest.skip(f"the engine has no image {name}: build it first")

    return image


@pytest.fixture
def trainer_image(needs: Callable[[str], None]) -> None:
    """The trainer's image, where it was built from the code that is tested."""
    needs(TRAINER)
    ask = ["python", "-c", "from evergreen.training.provenance import code_digest; print(code_digest())"]
    told = subprocess.run(
        ["docker", "run", "--rm", "--entrypoint", ask[0], TRAINER, *ask[1:]], capture_output=True, text=True, check=True
    )
    if told.stdout.strip() != code_digest():
        pytest.skip(f"{TRAINER} was built from other code than this: build it anew")


@pytest.fixture
def spec(filled_training_set: TrainingSet) -> dict[str, Any]:
    """A small candidate that needs no random numbers: its bundle depends on nothing but the training set."""
    feature = next(name for name, kind in filled_training_set.features if kind == "number")
    return {
        "candidate": "frequency",
        "model": "heuristic",
        "params": {"feature": feature},
        "seed": 7,
        "training_set": {"folder": str(filled_training_set.folder), "digest": filled_training_set.digest},
        "model_name": "buy-it-again",
    }


@pytest.fixture
def python_trainer(
    spec: dict[str, Any], needs: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., TrainContainerOperator]:
    """An operator whose container runs a piece of Python instead of the trainer, with limits of its own."""

    def make(code: str, **limits: Any) -> TrainContainerOperator:
        needs(PYTHON)
        for name, value in {"image": PYTHON, "memory_gib": 0.25, "cpus": 1, "pids": 64, **limits}.items():
            monkeypatch.setenv(f"EVERGREEN__CONTAINER__{name.upper()}", str(value))
        return TrainContainerOperator(task_id="train", spec=spec, entrypoint=["python", "-u", "-c", code])

    return make


def context(try_number: int = 1, map_index: int = 0) -> dict[str, Any]:
    ti = SimpleNamespace(
        dag_id="train_candidates", run_id="r+1", task_id="train", map_index=map_index, try_number=try_number
    )
    return {"ti": ti, "run_id": "r+1"}


def in_background(operator: TrainContainerOperator, **where: Any) -> tuple[threading.Thread, list[BaseException]]:
    """Starts the task and waits until its container runs."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            operator.execute(context(**where))
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not raised:
        if operator.container and operator.cli.inspect_container(operator.container["Id"])["State"]["Running"]:
            return thread, raised
        time.sleep(0.1)
    raise AssertionError(f"no container runs: {raised}")


def _ours(engine: docker.APIClient) -> list[dict[str, Any]]:
    return list(engine.containers(all=True, filters={"label": ["evergreen.part=trainer", "evergreen.run_id=r+1"]}))


def test_the_walls_stand(python_trainer, engine, spec):
    """What the engine itself says about a running container."""
    operator = python_trainer(WAIT)
    thread, _ = in_background(operator)
    (seen,) = _ours(engine)
    inspected = engine.inspect_container(seen["Id"])
    host, config = inspected["HostConfig"], inspected["Config"]
    operator.on_kill()
    thread.join(20)
    assert (host["Memory"], host["MemorySwap"]) == (2**28, 2**28)
    assert (host["NanoCpus"], host["PidsLimit"], host["ShmSize"]) == (10**9, 64, 2**28)
    assert host["ReadonlyRootfs"] is True
    assert (host["CapDrop"], host["CapAdd"], host["Privileged"]) == (["ALL"], None, False)
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["NetworkMode"] == "none"
    assert not config["User"].startswith("0")
    mounts = {mount["Destination"]: mount["RW"] for mount in inspected["Mounts"]}
    output = next(path for path, writable in mounts.items() if writable)
    assert mounts == {spec["training_set"]["folder"]: False, output: True}
    assert Path(output).parent.name == "trained"
    assert {name: config["Labels"][f"evergreen.{name}"] for name in ("dag_id", "map_index", "try_number")} == {
        "dag_id": "train_candidates",
        "map_index": "0",
        "try_number": "1",
    }


@pytest.mark.parametrize(
    ("attempt", "refusal"),
    [
        ("open('/opt/x', 'w')", "Read-only file system"),
        ("open(spec['training_set']['folder'] + '/x', 'w')", "Read-only file system"),
        ("import socket; socket.create_connection(('1.1.1.1', 53), 2)", "Network is unreachable"),
        ("import os; os.chown('/tmp', 1, 1)", "Operation not permitted"),
        ("import os; [os.fork() or __import__('time').sleep(9) for _ in range(99)]", "BlockingIOError"),
    ],
)
def test_what_is_behind_the_walls_stays_there(python_trainer, attempt, refusal):
    read = "import json, sys; spec = json.load(open(sys.argv[2]))\n"
    with pytest.raises(DockerContainerFailedException, match=refusal):
        python_trainer(read + attempt).execute(context())


def test_control_what_a_trainer_needs_is_inside(python_trainer):
    """Without this, a container in which nothing works at all would pass the test above."""
    code = (
        "import json, os, sys; spec = json.load(open(sys.argv[2]))\n"
        "os.listdir(spec['training_set']['folder'])\n"
        "open('/tmp/x', 'w').close(); open(os.path.dirname(sys.argv[2]) + '/x', 'w').close()\n"
    )
    assert python_trainer(code + ALL_DONE).execute(context())["bundle_digest"] == "none"


def test_killing_the_task_ends_the_container(python_trainer, engine):
    operator = python_trainer(WAIT)
    thread, raised = in_background(operator)
    began = time.monotonic()
    operator.on_kill()
    thread.join(20)
    assert not thread.is_alive()
    assert time.monotonic() - began < 10
    assert raised
    assert _ours(engine) == []


def test_what_an_earlier_try_left_is_removed_and_nothing_else(python_trainer, engine, monkeypatch):
    left, neighbour = python_trainer(WAIT), python_trainer(WAIT)
    for operator in (left, neighbour):
        monkeypatch.setattr(operator, "_remove", lambda identifier: None)  # its worker was killed: nobody cleans up
    first, _ = in_background(left)
    second, _ = in_background(neighbour, map_index=1)
    assert python_trainer(ALL_DONE).execute(context(try_number=2))["bundle_digest"] == "none"
    (stays,) = _ours(engine)
    assert stays["Labels"]["evergreen.map_index"] == "1"
    engine.remove_container(stays["Id"], force=True)
    first.join(20)
    second.join(20)


def test_the_reaper_knows_them_by_what_the_engine_lists(python_trainer, engine, settings):
    operator = python_trainer(WAIT)
    thread, _ = in_background(operator)
    listed = _ours(engine)
    owner = Owner.read(listed[0]["Labels"])
    assert owner == Owner(str(settings.home_path), TaskKey("train_candidates", "r+1", "train", 0), 1)
    assert orphans(listed, {(owner.task, None)}, owner.workspace) == []
    assert orphans(listed, set(), owner.workspace) == [listed[0]["Id"]]
    operator.on_kill()
    thread.join(20)


def test_too_little_memory_is_explained(python_trainer):
    with pytest.raises(TrainingError, match=r"^the trainer ran out of memory: it may use 0\.06 GiB \(settings"):
        python_trainer("print('begin'); x = bytearray(2**30)", memory_gib=0.0625).execute(context())


def test_too_little_time_is_explained(python_trainer, engine):
    with pytest.raises(
        TrainingError, match=r"^the trainer was stopped after 3 s \(settings\.container\.seconds\)"
    ) as told:
        python_trainer(WAIT, seconds=3).execute(context())
    assert "waiting" in str(told.value)
    assert _ours(engine) == []


def test_a_crash_shows_the_end_of_the_log(python_trainer):
    code = "for n in range(50): print('line', n)\nraise ValueError('no such column')"
    with pytest.raises(DockerContainerFailedException) as told:
        python_trainer(code).execute(context())
    lines = str(told.value).splitlines()
    assert lines[0] == "the trainer's container ended with code 1"
    assert lines[-1] == "ValueError: no such column"
    assert len(lines) < 25


def test_what_is_said_on_stderr_last_is_no_result(python_trainer):
    code = f"{ALL_DONE}; import sys; sys.stdout.flush(); print('a warning at exit', file=sys.stderr)"
    assert python_trainer(code).execute(context())["bundle_digest"] == "none"


def test_killed_from_outside_is_worth_another_try(python_trainer, engine):
    operator = python_trainer(WAIT)
    thread, raised = in_background(operator)
    engine.kill(_ours(engine)[0]["Id"])
    thread.join(20)
    assert "ended with code 137: it was killed from outside" in str(raised[0])
    assert not isinstance(raised[0], EvergreenError)


def test_an_image_that_is_no_trainer_is_named(python_trainer):
    operator = python_trainer("")
    operator.entrypoint = ["no-such-program"]
    with pytest.raises(PlatformError, match=r"refused the trainer's container: .*no-such-program"):
        operator.execute(context())


def test_a_missing_image_and_a_missing_gpu_are_named_before_anything_starts(python_trainer, engine):
    with pytest.raises(PlatformError, match="has no image evergreen/nothing:1"):
        python_trainer("", image="evergreen/nothing:1").execute(context())
    if "nvidia" not in engine.info()["Runtimes"]:
        with pytest.raises(PlatformError, match=r"settings\.container\.gpus is 'on' and the engine has no GPU"):
            python_trainer("", gpus="on").execute(context())
    assert _ours(engine) == []


def test_what_was_trained_from_other_code_is_not_used(python_trainer):
    code = 'print(\'{"bundle_digest": "none", "code_digest": "0000"}\')'
    with pytest.raises(TrainingError, match=r"the trainer's code is 0000, this is .* Build the trainer's image anew"):
        python_trainer(code).execute(context())


@pytest.mark.parametrize("model", ["heuristic", "logistic", "xgboost"])
@pytest.mark.usefixtures("trainer_image")
def test_process_and_container_train_the_same_bundle(model, spec, home, monkeypatch):
    spec |= {"candidate": model, "model": model} | ({} if model == "heuristic" else {"params": {}})
    by_process = TrainProcessOperator(task_id="train", spec=spec).execute(context())
    monkeypatch.setenv("EVERGREEN_HOME", str(home.parent / "other"))
    by_container = TrainContainerOperator(task_id="train", spec=spec).execute(context())
    assert by_container["bundle_digest"] == by_process["bundle_digest"]
    assert {**by_container, "folder": "", "seconds": 0} == {**by_process, "folder": "", "seconds": 0}
    assert load_bundle(by_container["folder"], by_process["bundle_digest"])


@pytest.mark.usefixtures("trainer_image")
def test_the_trainer_refuses_in_its_own_words_from_a_container(spec):
    spec["training_set"]["digest"] = "0" * 64
    with pytest.raises(EvergreenError, match=r"^training set .* has digest .* expected 0000"):
        TrainContainerOperator(task_id="train", spec=spec).execute(context())
    assert load_settings().container.image == TRAINER


def test_named_volumes_are_mounted_at_the_same_paths(python_trainer, engine, spec, home, monkeypatch):
    """The first container that mounts an empty volume fills it from the image: nothing of ours is in it."""
    names = {str(Path(spec["training_set"]["folder"]).parent): "evergreen_test_sets"}
    names[str(home / "models" / "trained")] = "evergreen_test_trained"
    operator = python_trainer(WAIT, volumes=json.dumps(names))
    try:
        thread, _ = in_background(operator)
        mounts = engine.inspect_container(_ours(engine)[0]["Id"])["Mounts"]
        assert {(mount["Name"], mount["Destination"], mount["RW"]) for mount in mounts} == {
            (name, path, name == "evergreen_test_trained") for path, name in names.items()
        }
        operator.on_kill()
        thread.join(20)
    finally:
        for name in names.values():
            with contextlib.suppress(APIError):
                engine.remove_volume(name)
