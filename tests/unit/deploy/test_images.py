"""Builds: which client, which settings of this machine reach them, and by which way."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from evergreen.deploy import images
from evergreen.deploy.images import TARGETS, Torch, build, build_secrets, find_docker, image_name, uv_settings
from evergreen.errors import DeployError

PROJECT = Path(__file__).resolve().parents[3]


def client(folder: Path, name: str, body: str) -> str:
    """A Docker client that is a shell script."""
    file = folder / name
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return str(file)


def test_every_image_is_a_target_of_the_dockerfile() -> None:
    stages = [line.split()[-1] for line in (PROJECT / "Dockerfile").read_text().splitlines() if line.startswith("FROM")]
    assert set(images.TARGETS) <= set(stages)


def test_a_client_that_cannot_build_is_passed_over(tmp_path: Path) -> None:
    lacks = client(tmp_path, "lacks", '[ "$1" = version ] && echo "28.2.2 20.10.24"')
    builds = client(tmp_path, "builds", '[ "$1" = version ] && echo "20.10.24 20.10.24"')
    plugin = client(tmp_path, "plugin", 'echo "28.2.2 28.2.2"')
    assert find_docker([lacks, builds]) == builds
    assert find_docker([plugin, builds]) == plugin
    with pytest.raises(DeployError, match=r"lacks 28\.2\.2 lacks the plugin buildx"):
        find_docker([lacks])


def test_without_an_engine_one_line_says_so(tmp_path: Path) -> None:
    silent = client(tmp_path, "silent", "echo cannot connect >&2; exit 1")
    with pytest.raises(DeployError, match=r"silent reaches no engine; .*absent reaches no engine\. Start"):
        find_docker([silent, str(tmp_path / "absent")])
    with pytest.raises(DeployError, match="no client on PATH"):
        find_docker([])


def test_a_client_can_be_named_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = client(tmp_path, "named", 'echo "20.10.24 20.10.24"')
    monkeypatch.setenv("DOCKER", named)
    assert find_docker() == named


def test_what_pip_was_told_is_translated_and_what_uv_was_told_wins() -> None:
    told = {"index-url": "https://index.example/simple", "trusted-host": "a\nb", "timeout": "60", "cert": "/ca.pem"}
    assert uv_settings(told, {"UV_HTTP_TIMEOUT": "9"}) == {
        "UV_DEFAULT_INDEX": "https://index.example/simple",
        "UV_INSECURE_HOST": "a b",
        "UV_HTTP_TIMEOUT": "9",
        "SSL_CERT_FILE": "/ca.pem",
    }


def test_an_index_in_a_folder_is_not_handed_to_a_build() -> None:
    assert uv_settings({"index-url": "file:///somewhere/simple"}, {}) == {"UV_HTTP_TIMEOUT": "120"}


def test_settings_are_secrets_of_the_build_and_are_gone_after_it(tmp_path: Path) -> None:
    certificates = tmp_path / "ca.pem"
    certificates.write_text("-")
    given = {"UV_DEFAULT_INDEX": "https://user:word@index.example/simple", "SSL_CERT_FILE": str(certificates)}
    with build_secrets(given) as options:
        assert options[0::2] == ["--secret", "--secret"]
        assert options[3] == f"id=ca,src={certificates}"
        file = Path(options[1].partition("src=")[2])
        assert file.read_text() == "UV_DEFAULT_INDEX='https://user:word@index.example/simple'\n"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert not any("word" in option for option in options), "a command line is seen by everybody"
    assert not file.exists()


RECORDS = """
case "$1" in
build) printf '%s\\n' "$@" >{log}; ls {wheels} >>{log} 2>/dev/null; echo "#9 ERROR: Hash mismatch for x"; exit {code} ;;
*) echo "sha256:abc 1000" ;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip knows, and a place of the project's own for them."""
    folder = tmp_path / "links"
    folder.mkdir()
    (folder / "torch-2.13.0+cpu-cp311-none-any.whl").write_text("-")
    (folder / "other-1.0-py3-none-any.whl").write_text("-")
    monkeypatch.setattr(images, "WHEELS", tmp_path / "wheels")
    monkeypatch.setattr(images, "pip_configuration", lambda: {"find-links": str(folder)})
    return tmp_path


@pytest.mark.parametrize(("torch", "lent"), [(Torch.CPU, 1), (Torch.NONE, 0), (Torch.CUDA, 0)])
def test_a_build_names_target_version_and_torch_and_is_lent_the_wheel(machine: Path, torch: Torch, lent: int) -> None:
    log = machine / "log"
    docker = client(machine, "docker", RECORDS.format(log=log, wheels=machine / "wheels", code=0))
    built = build("trainer", torch=torch, version="1.2.3", docker=docker)
    assert (built.name, built.id, built.size_bytes) == ("evergreen/trainer:1.2.3", "sha256:abc", 1000)
    said = log.read_text().splitlines()
    assert {"--target", "trainer", "VERSION=1.2.3", f"TORCH={torch}"} <= set(said)
    assert sum(line.startswith("torch-2.13.0") for line in said) == lent
    assert not any(line.startswith("other") for line in said)
    assert list((machine / "wheels").glob("*")) == []


def test_a_build_is_told_its_commit_and_every_image_hands_it_on(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an image there is no git: what a model is registered with comes from here."""
    monkeypatch.setattr(images, "PROJECT", tmp_path / "project")
    commit = commit_in(tmp_path / "project")
    docker = client(machine, "docker", RECORDS.format(log=machine / "log", wheels=machine / "wheels", code=0))
    build("airflow", docker=docker)
    assert f"REVISION={commit}" in (machine / "log").read_text().splitlines()
    (tmp_path / "project" / "file").write_text("changed")
    build("airflow", docker=docker)
    assert f"REVISION={commit}-dirty" in (machine / "log").read_text().splitlines()
    dockerfile = (PROJECT / "Dockerfile").read_text()
    stages = dockerfile.split("\nFROM ")
    told = [stage for stage in stages if "ARG REVISION" in stage]
    assert len(told) == len(TARGETS)
    assert all("\nENV EVERGREEN_REVISION=${REVISION}\n" in stage for stage in told)


def commit_in(folder: Path) -> str:
    """Makes a repository with one commit; gives its name."""
    folder.mkdir()
    (folder / "file").write_text("first")
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.example"]
    for arguments in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def test_a_failed_build_ends_in_one_line_that_says_why(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    docker = client(machine, "docker", RECORDS.format(log=machine / "log", wheels=machine / "wheels", code=1))
    with pytest.raises(DeployError, match=r"was not built: #9 ERROR: Hash mismatch for x\. The build's output"):
        build("broker", docker=docker)
    assert "Hash mismatch" in capsys.readouterr().err


def test_an_unknown_image_is_refused() -> None:
    with pytest.raises(DeployError, match="there is no image 'trainers', expected one of: airflow"):
        build("trainers", docker="docker")


def test_the_tag_is_the_version() -> None:
    assert image_name("serving", "1.0") == "evergreen/serving:1.0"
