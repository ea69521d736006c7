"""The operator against an engine's API as Docker's own client speaks it; the engine itself is in tests/integration."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.docker.exceptions import DockerContainerFailedException

from evergreen.errors import EvergreenError, PlatformError, TrainingError
from evergreen.training.provenance import code_digest
from evergreen_airflow.operators.container import TrainContainerOperator, read_log
from evergreen_airflow.operators.training import TrainProcessOperator, trainer

STDOUT, STDERR = 1, 2
CONTAINER = "c0ffee" * 10


class Engine:
    """Answers like an engine whose one container prints `output` and ends in `state`."""

    def __init__(self) -> None:
        self.output: list[tuple[int, str]] = []
        self.state: dict[str, Any] = {"ExitCode": 0}
        self.refusals: dict[str, tuple[int, str]] = {}
        self.listed: list[dict[str, Any]] = []
        self.runtimes: dict[str, Any] = {"runc": {}}
        self.created: dict[str, Any] = {}
        self.requests: list[str] = []
        self.started = threading.Event()
        self.killed = threading.Event()
        self.runs_until_killed = False

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        self.requests.append(f"{method} {path}")
        if refusal := self.refusals.get(f"{method} {path}"):
            return refusal[0], {"message": refusal[1]}
        if path == "/containers/create":
            self.created = json.loads(body)
        if path.endswith("/start"):
            self.started.set()
        if path.endswith("/kill"):
            self.killed.set()
        answers: dict[str, Any] = {
            "/version": {"ApiVersion": "1.41"},
            "/info": {"Runtimes": self.runtimes},
            "/images/evergreen/trainer:test/json": {"Id": "sha256:1"},
            "/containers/create": {"Id": CONTAINER},
            "/containers/json": self.listed,
            f"/containers/{CONTAINER}/json": {"State": self.state, "Config": {"Tty": False}},
            f"/containers/{CONTAINER}/wait": {"StatusCode": self.state["ExitCode"]},
        }
        if method in ("POST", "DELETE") and path not in answers:
            return 204, None
        return (200, answers[path]) if path in answers else (404, {"message": f"no such thing: {path}"})


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine that settings point to."""
    engine = Engine()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.split("?")[0]
            path = path.removeprefix("/v1.41")
            if path == "/_ping":
                self.reply(200, b"OK")
            elif path.endswith("/attach"):
                self.stream()
            else:
                status, document = engine.answer(self.command, path, body)
                self.reply(status, b"" if document is None else json.dumps(document).encode())

        def reply(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def stream(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/vnd.docker.raw-stream")
            self.end_headers()
            self.wfile.flush()
            engine.started.wait(10)
            for which, text in engine.output:
                self.wfile.write(struct.pack(">BxxxL", which, len(text.encode())) + text.encode())
            if engine.runs_until_killed:
                engine.killed.wait(10)
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    for method in ("GET", "POST", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.handle_any)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("EVERGREEN__CONTAINER__ENGINE_URL", f"tcp://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("EVERGREEN__CONTAINER__IMAGE", "evergreen/trainer:test")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield engine
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def spec(tmp_path: Any) -> dict[str, Any]:
    return {
        "candidate": "logistic",
        "model": "logistic",
        "seed": 7,
        "training_set": {"folder": str(tmp_path / "sets" / "abc"), "digest": "0" * 64},
        "model_name": "buy-it-again",
    }


@pytest.fixture
def train(spec: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    def run(try_number: int = 1, map_index: int | None = 2) -> dict[str, Any]:
        ti = SimpleNamespace(
            dag_id="train_candidates", run_id="r+1", task_id="train", map_index=map_index, try_number=try_number
        )
        operator = TrainContainerOperator(task_id="train", spec=spec)
        return operator.execute({"ti": ti, "run_id": "r+1"})  # type: ignore[arg-type, typeddict-item]

    return run


RESULT = {"bundle_digest": "b", "candidate": "logistic"}


def result_line(**changed: Any) -> str:
    return json.dumps({**RESULT, "code_digest": code_digest(), **changed}) + "\n"


def test_the_walls_in_the_request(engine, train, home, spec, monkeypatch):
    for name, value in {"memory_gib": 2, "cpus": 1.5, "pids": 100, "shm_mib": 64, "tmp_mib": 32}.items():
        monkeypatch.setenv(f"EVERGREEN__CONTAINER__{name.upper()}", str(value))
    engine.output = [(STDOUT, result_line())]
    train()
    host = engine.created["HostConfig"]
    folder = next((home / "models" / "trained").iterdir())
    assert {key: host[key] for key in ("Memory", "MemorySwap", "NanoCpus", "PidsLimit", "ShmSize")} == {
        "Memory": 2 * 2**30,
        "MemorySwap": 2 * 2**30,
        "NanoCpus": 1_500_000_000,
        "PidsLimit": 100,
        "ShmSize": 64 * 2**20,
    }
    assert host["ReadonlyRootfs"] is True
    assert host["Tmpfs"] == {"/tmp": "rw,noexec,nosuid,nodev,size=33554432"}
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["NetworkMode"] == "none"
    assert not {"Privileged", "CapAdd", "PidMode", "Devices", "Binds"} & {key for key, value in host.items() if value}
    assert not host.get("DeviceRequests")
    assert [(mount["Source"], mount["Target"], mount["Type"], mount["ReadOnly"]) for mount in host["Mounts"]] == [
        (spec["training_set"]["folder"], spec["training_set"]["folder"], "bind", True),
        (str(folder), str(folder), "bind", False),
    ]
    assert engine.created["Entrypoint"] == ["python", "-u", "-m", "evergreen.jobs.train"]
    assert engine.created["Cmd"] == ["--spec", str(folder / "spec.json"), "--out", str(folder / "bundle")]
    assert engine.created["Env"] == ["HOME=/tmp"], "what stands here is shown in the web UI"
    assert engine.created["User"] not in ("", "0", "0:0", "root")
    assert engine.created["Labels"] == {
        "evergreen.part": "trainer",
        "evergreen.workspace": str(home),
        "evergreen.dag_id": "train_candidates",
        "evergreen.run_id": "r+1",
        "evergreen.task_id": "train",
        "evergreen.map_index": "2",
        "evergreen.try_number": "1",
    }


def test_the_result_is_the_last_line_of_stdout_and_the_container_is_removed(engine, train):
    engine.output = [(STDOUT, "be"), (STDERR, "a warning\n"), (STDOUT, "gin\n" + result_line()), (STDERR, "the end\n")]
    assert train() == {**RESULT, "code_digest": code_digest()}
    assert engine.requests[-1] == f"DELETE /containers/{CONTAINER}"


def test_the_same_is_not_trained_twice(engine, train, monkeypatch):
    engine.output = [(STDOUT, result_line())]
    monkeypatch.setattr("evergreen.training.trained.load_bundle", lambda *_: None)
    first = train()
    engine.requests.clear()
    assert train() == first
    assert engine.requests == []


def test_what_other_code_trained_is_not_used(engine, train, home):
    engine.output = [(STDOUT, result_line(code_digest="0" * 64))]
    with pytest.raises(TrainingError, match="the trainer's code is 000000000000, this is "):
        train()
    assert not list((home / "models" / "trained").glob("*/result.json"))


def test_what_earlier_tries_left_is_removed_first(engine, train):
    engine.output, engine.listed = [(STDOUT, result_line())], [{"Id": "dead" * 16, "Labels": {}}]
    train(try_number=2)
    assert engine.requests.index(f"DELETE /containers/{'dead' * 16}") < engine.requests.index("POST /containers/create")


@pytest.mark.parametrize(
    ("state", "output", "error", "message"),
    [
        ({"ExitCode": 1}, [(STDERR, "evergreen: no such feature\n")], EvergreenError, "^no such feature$"),
        ({"ExitCode": 137, "OOMKilled": True}, [(STDOUT, "begin\n")], TrainingError, "ran out of memory"),
        ({"ExitCode": 137}, [], DockerContainerFailedException, "killed from outside.*\nits log is empty"),
        (
            {"ExitCode": 3},
            [(STDERR, "Error: c\n"), (STDOUT, "a\n" * 30)],
            DockerContainerFailedException,
            "code 3\nthe end of its log:\na\n(a\n)+Error: c$",
        ),
        ({"ExitCode": 0}, [(STDOUT, "done\n")], RuntimeError, "its last line is no JSON object: done"),
    ],
)
def test_how_it_can_end_badly(engine, train, state, output, error, message):
    engine.state, engine.output = state, output
    with pytest.raises(error, match=message):
        train()
    assert engine.requests[-1] == f"DELETE /containers/{CONTAINER}"


def test_a_crash_is_worth_another_try_and_a_lack_of_memory_is_not():
    """`evergreen_airflow.defaults.RETRY_POLICY` goes by this."""
    assert not issubclass(DockerContainerFailedException, EvergreenError)
    assert issubclass(TrainingError, EvergreenError)


def test_at_its_time_limit_it_is_killed(engine, train, monkeypatch):
    monkeypatch.setenv("EVERGREEN__CONTAINER__SECONDS", "0.3")
    engine.runs_until_killed, engine.state = True, {"ExitCode": 137}
    engine.output = [(STDOUT, "epoch 1\n")]
    with pytest.raises(TrainingError, match=r"(?s)stopped after 0\.3 s \(settings\.container\.seconds\).*epoch 1"):
        train()
    assert f"POST /containers/{CONTAINER}/kill" in engine.requests


@pytest.mark.parametrize(
    ("refused", "status", "said", "error", "message"),
    [
        (
            "GET /images/evergreen/trainer:test/json",
            404,
            "No such image",
            PlatformError,
            "has no image evergreen/trainer",
        ),
        (
            "POST /containers/create",
            403,
            "rule mounts: no",
            PlatformError,
            "refused the trainer's container: rule mounts",
        ),
        ("POST /containers/create", 500, "disk is full", RuntimeError, "refused the trainer's container: disk is full"),
        (f"POST /containers/{CONTAINER}/start", 400, "exec: no", PlatformError, "exec: no"),
        (
            f"POST /containers/{CONTAINER}/start",
            500,
            'could not select device driver "" with capabilities: [[gpu]]',
            PlatformError,
            "the engine has no GPU to give",
        ),
    ],
)
def test_what_the_engine_refuses(engine, train, refused, status, said, error, message):
    engine.started.set()
    engine.refusals = {refused: (status, said)}
    with pytest.raises(error, match=message) as raised:
        train()
    assert isinstance(raised.value, PlatformError) == (error is PlatformError)


def test_no_engine_is_worth_another_try_and_says_what_to_do(train, monkeypatch):
    monkeypatch.setenv("EVERGREEN__CONTAINER__ENGINE_URL", "tcp://127.0.0.1:1")
    with pytest.raises(ConnectionError, match=r"no Docker engine answers at tcp://127\.0\.0\.1:1 .*training\.runtime"):
        train()


@pytest.mark.parametrize(
    ("gpus", "runtimes", "frameworks", "gets"),
    [
        ("off", ["nvidia"], ("torch",), False),
        ("auto", ["nvidia"], ("torch",), True),
        ("auto", ["nvidia"], ("xgboost",), False),
        ("auto", ["runc"], ("torch",), False),
        ("on", ["nvidia"], ("xgboost",), True),
    ],
)
def test_who_gets_a_gpu(engine, train, monkeypatch, gpus, runtimes, frameworks, gets):
    monkeypatch.setenv("EVERGREEN__CONTAINER__GPUS", gpus)
    monkeypatch.setattr("evergreen.models.candidates.logistic.CANDIDATE.frameworks", frameworks)
    engine.runtimes, engine.output = {name: {} for name in runtimes}, [(STDOUT, result_line())]
    train()
    requests = engine.created["HostConfig"].get("DeviceRequests") or []
    assert [(one["DeviceIDs"], one["Capabilities"]) for one in requests] == ([(["0"], [["gpu"]])] if gets else [])
    assert engine.created["Labels"].get("evergreen.gpu") == ("0" if gets else None)


def test_the_gpu_that_fewest_use_is_taken(engine, train, monkeypatch):
    monkeypatch.setenv("EVERGREEN__CONTAINER__GPUS", "on")
    monkeypatch.setenv("EVERGREEN__CONTAINER__GPU_SLOTS", "3")
    engine.runtimes, engine.output = {"nvidia": {}}, [(STDOUT, result_line())]
    engine.listed = [{"Id": f"{gpu}" * 64, "Labels": {"evergreen.gpu": gpu}} for gpu in "020"]
    train()
    assert engine.created["HostConfig"]["DeviceRequests"][0]["DeviceIDs"] == ["1"]


def test_a_gpu_that_is_demanded_and_not_there_is_refused_before_anything_starts(engine, train, monkeypatch):
    monkeypatch.setenv("EVERGREEN__CONTAINER__GPUS", "on")
    with pytest.raises(PlatformError, match=r"settings\.container\.gpus is 'on' and the engine has no GPU to give"):
        train()
    assert "POST /containers/create" not in engine.requests


@pytest.mark.parametrize(("gpus", "asked"), [("on", True), ("auto", False)])
def test_a_broker_that_hides_the_engine_leaves_the_answer_to_it(engine, train, monkeypatch, gpus, asked):
    monkeypatch.setenv("EVERGREEN__CONTAINER__GPUS", gpus)
    monkeypatch.setattr("evergreen.models.candidates.logistic.CANDIDATE.frameworks", ("torch",))
    engine.refusals, engine.output = {"GET /info": (403, "rule route")}, [(STDOUT, result_line())]
    train()
    assert bool(engine.created["HostConfig"].get("DeviceRequests")) is asked


def test_lines_are_whole_and_streams_are_not_mixed():
    said: list[str] = []
    text = "größe\n".encode()
    log = read_log([(text[:3], None), (None, b"warn"), (text[3:], b"ing\n"), (b"no end", None)], said.append)
    assert said == ["größe", "warning", "no end"]
    assert (log.stdout, log.stderr) == (["größe", "no end"], ["warning"])


def test_an_index_that_is_not_there_is_minus_one(engine, train):
    engine.output = [(STDOUT, result_line())]
    train(map_index=None)
    assert engine.created["Labels"]["evergreen.map_index"] == "-1"


def test_nothing_to_kill_before_it_runs(spec):
    TrainContainerOperator(task_id="train", spec=spec).on_kill()


def test_what_is_templated():
    assert TrainContainerOperator.template_fields == TrainProcessOperator.template_fields == ("spec",)


@pytest.mark.parametrize(
    ("runtime", "gpus", "expected"),
    [
        ("process", "on", (TrainProcessOperator, "heavy")),
        ("docker", "off", (TrainContainerOperator, "heavy")),
        ("docker", "on", (TrainContainerOperator, "gpu")),
    ],
)
def test_the_settings_choose_the_trainer(monkeypatch, runtime, gpus, expected):
    monkeypatch.setenv("EVERGREEN__TRAINING__RUNTIME", runtime)
    monkeypatch.setenv("EVERGREEN__CONTAINER__GPUS", gpus)
    assert trainer() == expected
