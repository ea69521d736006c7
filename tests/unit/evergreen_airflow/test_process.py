from __future__ import annotations

import os
import time
from pathlib import Path
from threading import Thread

import psutil
import pytest

from evergreen.errors import EvergreenError
from evergreen_airflow.operators import process
from evergreen_airflow.operators.process import JobProcess

SPAWNS_A_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`job("print(1)")`: a process that runs this code as a module."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]]))

    def make(code: str, *arguments: str) -> JobProcess:
        (tmp_path / "some_job.py").write_text(code)
        return JobProcess("some_job", arguments)

    return make


def test_the_last_line_is_the_result_and_all_lines_are_logged(job):
    said: list[str] = []
    result = job("import sys; print('working'); print('{\"rows\": ' + sys.argv[1] + '}')", "7").run(said.append)
    assert result == {"rows": 7}
    assert said == ["working", '{"rows": 7}']


def test_a_refusal_keeps_its_own_words(job):
    code = "import sys; sys.stderr.write('evergreen: labels are immature: wait\\n'); sys.exit(1)"
    with pytest.raises(EvergreenError, match=r"^labels are immature: wait$"):
        job(code).run(lambda _: None)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise ValueError('no')", "some_job ended with code 1; its last line: ValueError: no"),
        ("import os; os._exit(3)", "some_job ended with code 3; its last line: none"),
        ("import os; os.kill(os.getpid(), 9)", "some_job was killed by signal 9; its last line: none"),
        ("print('done')", "some_job ended well but its last line is no JSON object: done"),
        ("print('[1]')", "some_job ended well but its last line is no JSON object: \\[1\\]"),
        ("", "some_job ended well but its last line is no JSON object: nothing"),
    ],
)
def test_an_end_without_a_result_says_how_it_ended(job, code, message):
    with pytest.raises(RuntimeError, match=f"^{message}$"):
        job(code).run(lambda _: None)


def test_kill_ends_the_job_and_what_it_started(job):
    running = job(SPAWNS_A_CHILD)
    said: list[str] = []
    ended: list[BaseException] = []

    def run() -> None:
        try:
            running.run(said.append)
        except RuntimeError as error:
            ended.append(error)

    thread = Thread(target=run)
    thread.start()
    wait_for(lambda: said)
    child = psutil.Process(int(said[0]))
    running.kill()
    thread.join(5)
    assert "killed by signal 15" in str(ended[0])
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_a_job_that_does_not_listen_is_killed(job, monkeypatch):
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.2)
    running = job("import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)")
    said: list[str] = []
    ended: list[str] = []

    def run() -> None:
        try:
            running.run(said.append)
        except RuntimeError as error:
            ended.append(str(error))

    thread = Thread(target=run)
    thread.start()
    wait_for(lambda: said)
    running.kill()
    thread.join(5)
    assert "killed by signal 9" in ended[0]


def test_killing_what_does_not_run_is_nothing(job):
    ended = job("print('{}')")
    ended.kill()
    ended.run(lambda _: None)
    ended.kill()


def wait_for(ready, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
