"""The executable's own parts: what it hands on to uv, how it finds Java, and what it says when something is missing."""

from __future__ import annotations

import fcntl
import importlib.machinery
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

PROJECT = Path(__file__).resolve().parents[2]
LAUNCHER = PROJECT / "evergreen"


@pytest.fixture
def launcher(tmp_path: Path) -> ModuleType:
    """The executable as a module, working on a folder of its own."""
    loader = importlib.machinery.SourceFileLoader("launcher", str(LAUNCHER))
    spec = importlib.util.spec_from_loader("launcher", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    module.ROOT, module.VENV = tmp_path, tmp_path / ".venv"  # type: ignore[attr-defined]
    module.PYTHON, module.STAMP = module.VENV / "bin" / "python", module.VENV / "evergreen.json"  # type: ignore[attr-defined]
    return module


def fake_java(home: Path, version: str, *, release: bool = True) -> Path:
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    java.chmod(0o755)
    if release:
        (home / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return home


def test_help_needs_no_installation(tmp_path: Path) -> None:
    alone = tmp_path / "evergreen"
    alone.write_bytes(LAUNCHER.read_bytes())
    done = subprocess.run([sys.executable, alone, "--help"], capture_output=True, text=True, check=True)
    for command in ("run", "test", "rollback", "setup", "lint"):
        assert re.search(rf"^  {command} ", done.stdout, re.MULTILINE), command
    assert list(tmp_path.iterdir()) == [alone]


def test_help_before_the_installation_lists_the_commands_of_the_command_line(launcher: ModuleType) -> None:
    from typer.main import get_command

    from evergreen.cli.app import app

    listed = re.findall(r"^  (\w+) ", launcher.HELP, re.MULTILINE)
    assert sorted(listed) == sorted(get_command(app).commands), "give HELP in ./evergreen a line for each command"


def test_another_python_is_refused_in_one_line(tmp_path: Path) -> None:
    code = (
        "import runpy, sys; sys.version_info = (3, 9, 1, 'final', 0); "
        f"sys.argv = ['evergreen']; runpy.run_path({str(LAUNCHER)!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={"PATH": str(tmp_path)}
    )
    assert done.returncode == 1
    assert done.stderr == "evergreen: python3 is 3.9, must be 3.11 or 3.12. Install one of them and run this again.\n"


@pytest.mark.parametrize(
    ("version", "release", "major"), [("17.0.15", True, 17), ("21.0.1", False, 21), ("1.8.0_402", True, 1)]
)
def test_the_version_of_java_is_read(
    launcher: ModuleType, tmp_path: Path, version: str, release: bool, major: int
) -> None:
    assert launcher.java_version(fake_java(tmp_path / "java", version, release=release)) == major


def test_no_java_has_version_0(launcher: ModuleType, tmp_path: Path) -> None:
    assert launcher.java_version(tmp_path) == 0


def test_an_old_java_home_is_passed_over(launcher: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitting = fake_java(tmp_path / "jdk-17", "17.0.1")
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path / "jdk-11", "11.0.2")))
    monkeypatch.setenv("PATH", str(fitting / "bin"))
    assert launcher.java_home() == fitting


def test_without_java_the_exact_command_is_named(launcher: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "java_home", lambda: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(launcher.SetupError, match=r"no Java 17 or newer .*: .*install"):
        launcher.find_java("run")
    assert launcher.find_java("status") is None


def test_what_pip_was_told_reaches_uv(launcher: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = "global.cert='/a.pem'\nglobal.find-links='/one\\n/two'\nglobal.timeout='9'\n:env:.cert='/b.pem'\n"
    monkeypatch.setattr(
        launcher.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, stdout=listed, stderr="")
    )
    given = launcher.uv_environment({"UV_HTTP_TIMEOUT": "300"})
    assert given["SSL_CERT_FILE"] == "/b.pem", "the environment wins over files"
    assert given["UV_FIND_LINKS"] == "/one,/two"
    assert given["UV_HTTP_TIMEOUT"] == "300", "what uv itself was told stays"
    assert "UV_DEFAULT_INDEX" not in given


UV_REFUSES = """\
error: Failed to download `rich==15.0.0`
  cause: Hash mismatch for `rich==15.0.0`
"""
PIP_REFUSES = """\
ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.
"""


@pytest.mark.parametrize(("output", "name"), [(UV_REFUSES, "rich==15.0.0"), (PIP_REFUSES, "a package")])
def test_an_altered_package_is_named(launcher: ModuleType, output: str, name: str) -> None:
    command = [sys.executable, "-c", f"import sys; print({output!r}); sys.exit(1)"]
    with pytest.raises(launcher.SetupError, match=f"^{re.escape(name)} does not match the hash"):
        launcher.stream(command, os.environ, what="installing")


def test_another_failure_ends_with_its_last_line(launcher: ModuleType) -> None:
    command = [sys.executable, "-c", "print('a'); print('no route'); raise SystemExit(2)"]
    with pytest.raises(launcher.SetupError, match=r"^installing failed: no route$"):
        launcher.stream(command, os.environ, what="installing")


def test_a_full_disk_is_refused_before_anything_is_written(
    launcher: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher.shutil, "disk_usage", lambda _: SimpleNamespace(free=2_000_000_000))
    with pytest.raises(launcher.SetupError, match=r"^2\.0 GB are free .* needs 6"):
        launcher.set_up()
    assert not launcher.VENV.exists()


def test_the_environment_is_made_once_and_again_after_a_changed_lock(
    launcher: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = tmp_path / "requirements"
    locks.mkdir()
    for name in ("main.lock", *launcher.LOCKS):
        (locks / name).write_text(name)
    launcher.REQUIREMENTS = locks  # type: ignore[attr-defined]
    monkeypatch.setenv("EVERGREEN_TORCH", "none")
    done: list[str] = []

    def make_venv() -> None:
        done.append("venv")
        launcher.PYTHON.parent.mkdir(parents=True, exist_ok=True)
        launcher.PYTHON.touch()

    monkeypatch.setattr(launcher, "make_venv", make_venv)
    for step in ("install_uv", "sync", "make_importable", "check_disk"):
        monkeypatch.setattr(launcher, step, lambda step=step: done.append(step))
    launcher.set_up()
    assert done == ["check_disk", "venv", "install_uv", "sync", "make_importable"]
    launcher.set_up()
    assert len(done) == 5, "nothing to do"
    (locks / "main.lock").write_text("other")
    launcher.set_up()
    assert len(done) == 10
    launcher.STAMP.write_text("{")
    launcher.set_up()
    assert len(done) == 15, "a stamp that cannot be read is no stamp"
    assert json.loads(launcher.STAMP.read_text()) == launcher.wanted()


@pytest.mark.parametrize(
    ("gpu", "wheel", "asked", "lock"),
    [
        (False, False, "auto", "main.lock"),
        (False, True, "auto", "main-cpu.lock"),
        (True, True, "auto", "main-cuda.lock"),
        (True, True, "none", "main.lock"),
        (False, False, "cpu", "main-cpu.lock"),
    ],
)
def test_torch_comes_as_the_machine_can_use_it(
    launcher: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool, wheel: bool, asked: str, lock: str
) -> None:
    monkeypatch.setattr(launcher.shutil, "which", lambda _: "nvidia-smi" if gpu else None)
    monkeypatch.setattr(launcher.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(launcher.sys, "platform", "linux")
    monkeypatch.setattr(launcher.sys, "version_info", (3, 11, 7))
    monkeypatch.setattr(launcher, "REQUIREMENTS", tmp_path)
    monkeypatch.setenv("EVERGREEN_TORCH", asked)
    monkeypatch.setenv("PIP_FIND_LINKS", f"{tmp_path / 'elsewhere'} {tmp_path / 'found'}")
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)
    if wheel:
        (tmp_path / "found").mkdir()
        (tmp_path / "found" / "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl").touch()
    assert launcher.main_lock() == lock


def test_an_unknown_torch_is_refused(launcher: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_TORCH", "rocm")
    with pytest.raises(launcher.SetupError, match=r"^EVERGREEN_TORCH is 'rocm', must be auto, cuda, cpu or none$"):
        launcher.main_lock()


def test_a_failed_installation_leaves_no_stamp(
    launcher: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher.VENV.mkdir()
    launcher.STAMP.write_text("{}")

    def fails() -> None:
        raise launcher.SetupError("planted")

    for step in ("make_venv", "install_uv", "check_disk"):
        monkeypatch.setattr(launcher, step, lambda: None)
    monkeypatch.setattr(launcher, "sync", fails)
    with pytest.raises(launcher.SetupError, match="planted"):
        launcher.set_up()
    assert not launcher.STAMP.exists()


def test_two_at_once_take_turns(launcher: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    order: list[str] = []
    waits = threading.Event()
    launcher.say = lambda _: waits.set()  # type: ignore[attr-defined]

    def second() -> None:
        with launcher.alone():
            order.append("second")

    thread = threading.Thread(target=second)
    with launcher.alone():
        thread.start()
        assert waits.wait(10), "the second one says that it waits"
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    handle = os.open(launcher.ROOT, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nothing holds it any more
    os.close(handle)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["tests/unit", "-x"], ["-m", "pytest", "tests/unit", "-x"]),
        (["--all", "-q"], ["-m", "pytest", "-m", "", "--cov", "--cov-report=term", "-q"]),
        (
            ["--all", "tests/unit/lake"],  # covers a part of the product: no floor is asked of it
            ["-m", "pytest", "-m", "", "--cov", "--cov-report=term", "--cov-fail-under=0", "tests/unit/lake"],
        ),
    ],
)
def test_all_runs_every_marker(
    launcher: ModuleType, monkeypatch: pytest.MonkeyPatch, given: list[str], expected: list[str]
) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(launcher, "become", lambda arguments, environment: ran.append(list(arguments)))
    monkeypatch.setattr(launcher, "environment_for", lambda command: {})
    monkeypatch.chdir(launcher.ROOT)
    launcher.test(given)
    assert ran == [expected]
