"""Images: built from the Dockerfile with what this machine knows about packages, none of which reaches a layer."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from evergreen import __version__
from evergreen.errors import DeployError
from evergreen.settings.tree import PROJECT

TARGETS = ("airflow", "trainer", "serving", "broker", "dev")
"""Targets of the Dockerfile that are images."""

REQUIREMENTS = PROJECT / "requirements"
WHEELS = REQUIREMENTS / "wheels"  # where the Dockerfile looks for wheels that no index has
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
WITHOUT_BUILDX = 23  # from this release on a client builds by the plugin buildx alone


class Torch(StrEnum):
    """Which torch a trainer gets."""

    NONE = "none"
    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True)
class Built:
    """An image that was built."""

    name: str
    id: str
    size_bytes: int
    seconds: float


def image_name(target: str, version: str = __version__) -> str:
    """Name and tag of a target's image."""
    return f"evergreen/{target}:{version}"


def find_docker(candidates: Sequence[str] | None = None) -> str:
    """A Docker client whose engine answers and that can build with BuildKit.

    A machine may have several, and the first on PATH may lack the plugin that newer clients build with. The variable
    DOCKER names one by hand.

    Raises:
        DeployError: there is none, with what was wrong with each that was looked at.
    """
    if candidates is None:
        named = os.environ.get("DOCKER")
        found = [named] if named else [shutil.which("docker"), shutil.which("docker", path="/usr/bin:/usr/local/bin")]
        candidates = list(dict.fromkeys(name for name in found if name))
    seen = []
    for name in candidates:
        if reason := _cannot_build(name):
            seen.append(f"{name} {reason}")
        else:
            return name
    raise DeployError(f"no Docker that can build: {'; '.join(seen) or 'no client on PATH'}. Start the engine first")


def _cannot_build(docker: str) -> str:
    told = _ask(docker, "version", "--format", "{{.Client.Version}} {{.Server.Version}}")
    if told.returncode:
        return "reaches no engine"
    major = told.stdout.split(".")[0]
    if not (major.isdigit() and int(major) < WITHOUT_BUILDX) and _ask(docker, "buildx", "version").returncode:
        return f"{told.stdout.split()[0]} lacks the plugin buildx"
    return ""


def _ask(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def build(target: str, *, torch: Torch = Torch.NONE, version: str = __version__, docker: str | None = None) -> Built:
    """Builds an image and gives its name, id, size and the seconds that it took.

    Args:
        target: one of `TARGETS`.
        torch: which torch the trainer gets; means nothing to the other targets.
        version: the image's tag.
        docker: the client; by default one that can build is looked for.

    Raises:
        DeployError: no client can build, or the build failed; the build's own output is on standard error then.
    """
    if target not in TARGETS:
        raise DeployError(f"there is no image {target!r}, expected one of: {', '.join(TARGETS)}")
    client = docker or find_docker()
    began = time.monotonic()
    name = image_name(target, version)
    with build_secrets(uv_settings(pip_configuration(), os.environ)) as secrets, _wheels(torch):
        command = [client, "build", "--progress=plain", "--target", target, "--tag", name, *secrets]
        for key, value in {"VERSION": version, "TORCH": torch.value, **_source()}.items():
            command += ["--build-arg", f"{key}={value}"]
        for proxy in filter(os.environ.get, PROXIES):
            command += ["--build-arg", proxy]  # the value comes from the environment
        done = subprocess.run(
            [*command, str(PROJECT)],
            env={**os.environ, "DOCKER_BUILDKIT": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    if done.returncode:
        sys.stderr.write(done.stdout)
        raise DeployError(f"{name} was not built: {_why(done.stdout)}. The build's output is above")
    told = _ask(client, "image", "inspect", "--format", "{{.Id}} {{.Size}}", name).stdout.split()
    return Built(name, told[0], int(told[1]), round(time.monotonic() - began, 1))


def _why(output: str) -> str:
    """The line of a failed build that says most."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = [line for line in lines if re.search(r"hash mismatch|error[: ]", line, re.IGNORECASE)]
    return (told or lines or ["no output"])[-1].rstrip(".")


def _source() -> dict[str, str]:
    """The commit and its time, from git alone, so that the same source gives the same layers.

    Labels of the image, and what a model that is made in it records: an image has no git to ask.
    """
    commit = _ask("git", "-C", str(PROJECT), "log", "-1", "--format=%H %cI")
    if commit.returncode:
        return {}
    revision, created = commit.stdout.split()
    changed = _ask("git", "-C", str(PROJECT), "status", "--porcelain").stdout.strip()
    return {"REVISION": revision + ("-dirty" if changed else ""), "CREATED": created}


def pip_configuration() -> dict[str, str]:
    """What pip was told by this machine's files and by PIP_*; the latter win."""
    listed = _ask(sys.executable, "-m", "pip", "config", "list").stdout
    told: dict[str, str] = {}
    for scope in ("global", "install", ":env:"):
        for line in listed.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(f"{scope}."):
                told[name.removeprefix(f"{scope}.")] = str(ast.literal_eval(value))
    return told


def uv_settings(told: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """What uv is told in a build, from pip's configuration; what uv itself was told wins.

    An index in a folder of this machine is left out: a build cannot see it.
    """
    index = told.get("index-url", "")
    translated = {
        "UV_DEFAULT_INDEX": index if urlsplit(index).scheme in ("http", "https") else "",
        "UV_INSECURE_HOST": " ".join(told.get("trusted-host", "").split()),
        "UV_HTTP_TIMEOUT": told.get("default-timeout") or told.get("timeout") or "120",
    }
    given = {name: environment.get(name) or value for name, value in translated.items()}
    certificates = environment.get("SSL_CERT_FILE") or told.get("cert") or ""
    return {name: value for name, value in {**given, "SSL_CERT_FILE": certificates}.items() if value}


@contextmanager
def build_secrets(settings: Mapping[str, str]) -> Iterator[list[str]]:
    """Options that hand a build its settings as secrets: BuildKit mounts them for one command, no layer holds them."""
    with tempfile.TemporaryDirectory(prefix="evergreen-build-") as folder:
        lines = [f"{name}='{value}'\n" for name, value in settings.items() if name != "SSL_CERT_FILE"]
        file = Path(folder, "uv")
        file.touch(mode=0o600)
        file.write_text("".join(lines))
        options = ["--secret", f"id=uv,src={file}"]
        certificates = settings.get("SSL_CERT_FILE")
        if certificates and Path(certificates).is_file():
            options += ["--secret", f"id=ca,src={certificates}"]
        yield options


@contextmanager
def _wheels(torch: Torch) -> Iterator[None]:
    """Puts wheels of torch from pip's own folders where the build sees them, for the time of the build."""
    lent = []
    if torch is Torch.CPU:
        WHEELS.mkdir(exist_ok=True)
        for folder in map(Path, pip_configuration().get("find-links", "").split()):
            for wheel in sorted(folder.glob("torch-*.whl")):
                if not (place := WHEELS / wheel.name).exists():
                    shutil.copy(wheel, place)
                    lent.append(place)
    try:
        yield
    finally:
        for place in lent:
            place.unlink(missing_ok=True)
