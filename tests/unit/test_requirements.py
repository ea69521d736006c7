"""The locks: each image's is a part of the whole, and a package that was altered is not installed."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

import pytest
from packaging.markers import Marker

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements"
LOCKS = sorted(path.name for path in REQUIREMENTS.glob("*.lock"))
IMAGES = ("airflow.lock", "broker.lock", "serving.lock", "trainer.lock")
WITH_TORCH = ("main-cpu.lock", "main-cuda.lock", "trainer-cpu.lock", "trainer-cuda.lock")

Pins = dict[tuple[str, str], set[str]]


@cache
def pins(lock: str) -> Pins:
    """Hashes by name and version."""
    text = re.sub(r"(?m)^[ \t]*#.*\n", "", (REQUIREMENTS / lock).read_text())
    found: Pins = {}
    for entry in filter(str.strip, re.split(r"\n(?=\S)", text)):
        name, version = re.match(r"([^=\s]+)==([^\s;\\]+)", entry).groups()  # type: ignore[union-attr]
        found[name, version] = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", entry))
    return found


def here(lock: str) -> set[str]:
    """Names of the packages that Python 3.11 on Linux x86-64 takes of a lock."""
    machine = {"python_full_version": "3.11.7", "sys_platform": "linux", "platform_machine": "x86_64"}
    machine |= {"platform_python_implementation": "CPython", "platform_system": "Linux", "os_name": "posix"}
    found = re.findall(r"(?m)^([^=\s#]+)==\S+(?: ; (.*?))? \\$", (REQUIREMENTS / lock).read_text())
    return {name for name, marker in found if not marker or Marker(marker).evaluate(machine)}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_host_and_pins_every_package_with_a_hash(lock: str) -> None:
    text = (REQUIREMENTS / lock).read_text()
    assert "://" not in text
    assert "--index-url" not in text
    assert "--find-links" not in text
    assert all(pins(lock).values())


@pytest.mark.parametrize("lock", IMAGES)
def test_an_image_installs_a_part_of_what_was_tested(lock: str) -> None:
    """The same versions with the same hashes as in main.lock, which the tests run on."""
    whole, part = pins("main.lock"), pins(lock)
    assert {pin: whole.get(pin) for pin in part} == part
    assert len(part) < len(whole)


@pytest.mark.parametrize("lock", WITH_TORCH)
def test_a_lock_with_torch_changes_no_version_of_the_one_without(lock: str) -> None:
    with_torch, whole = pins(lock), dict(pins("main.lock"))
    versions = {name: version for name, version in whole if name in {name for name, _ in with_torch}}
    several = {name for name in versions if sum(name == other for other, _ in whole) > 1}  # one a Python version
    for (name, version), hashes in with_torch.items():
        if name in several:
            assert hashes <= whole[name, version]
        elif name in versions:
            assert (version, hashes) == (versions[name], whole[name, versions[name]]), name
    assert here(f"{lock.split('-')[0]}.lock") - {name for name, _ in with_torch} <= {"nvidia-nccl-cu12"}


@pytest.mark.parametrize(
    ("lock", "absent"),
    [
        ("trainer.lock", {"apache-airflow", "pyspark", "feast", "mlflow"}),
        ("serving.lock", {"apache-airflow", "pyspark", "mlflow"}),
        ("broker.lock", {"apache-airflow", "pyspark", "feast", "mlflow", "docker"}),
        ("airflow.lock", {"pytest", "pre-commit", "ruff"}),
    ],
)
def test_images_are_no_larger_than_their_parts(lock: str, absent: set[str]) -> None:
    assert absent.isdisjoint(name for name, _ in pins(lock))
    assert absent - {"docker"} <= {name for name, _ in pins("main.lock")}, "control: the names are real"


def make_wheel(folder: Path) -> str:
    """A wheel of nothing; gives its SHA-256."""
    files = {
        "planted-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: planted\nVersion: 1.0\n",
        "planted-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nTag: py3-none-any\n",
        "planted.py": "",
    }
    records = []
    wheel = folder / "planted-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
            records.append(f"{name},sha256={digest},{len(content)}\n")
            archive.writestr(name, content)
        archive.writestr("planted-1.0.dist-info/RECORD", "".join(records) + "planted-1.0.dist-info/RECORD,,\n")
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


@pytest.mark.parametrize("altered", [False, True], ids=["control", "altered"])
def test_an_altered_hash_fails_the_installation(tmp_path: Path, altered: bool) -> None:
    """By the very command that the Dockerfile runs; with the right hash it installs."""
    digest = make_wheel(tmp_path)
    if altered:
        digest = digest[:-1] + ("0" if digest[-1] != "0" else "1")
    lock = tmp_path / "planted.lock"
    lock.write_text(f"planted==1.0 --hash=sha256:{digest}\n")
    uv = Path(sys.prefix) / "uv" / "bin" / "uv"
    if not uv.exists():
        pytest.skip("this environment was not made by ./evergreen setup: it holds no uv")
    done = subprocess.run(
        [
            *(uv, "pip", "install", "--offline", "--no-index", "--no-config", "--find-links", tmp_path),
            *("--require-hashes", "--no-cache", "--target", tmp_path / "out", "-r", lock),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode != 0) is altered, done.stderr
    assert ("Hash mismatch" in done.stderr) is altered
    assert (tmp_path / "out" / "planted.py").exists() is not altered
