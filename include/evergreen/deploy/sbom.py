"""What an image is made of, as CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/): its lock and its Debian packages.

Written by hand, since it needs a dozen of the format's fields. What the lock says is compared with what is installed.
"""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from evergreen.deploy.images import REQUIREMENTS
from evergreen.errors import DeployError
from evergreen.lake.digest import digest_json

SPEC = "1.6"
LOCKS = {
    "airflow": ("airflow.lock",),
    "trainer": ("trainer.lock", "trainer-cpu.lock", "trainer-cuda.lock"),
    "serving": ("serving.lock",),
    "broker": ("broker.lock",),
    "dev": ("main.lock",),
}
"""Locks that an image may have been made from, by target; which one it was is seen by what is installed."""

_NAMESPACE = uuid.UUID(
    "6f1b3f60-0f2b-5f0e-9d0e-5d3c1f6a7b21"
)  # any, always the same: equal contents, equal serial number
# Runs in the image, with its own Python: what is there, as JSON.
_PROBE = """
import importlib.metadata, json, platform, subprocess, sys
shown = "${Package}\\t${Version}\\t${Architecture}\\t${db:Status-Status}\\n"
packages = subprocess.run(["dpkg-query", "-W", "-f", shown], capture_output=True, text=True, check=True).stdout
system = dict(line.rstrip().split("=", 1) for line in open("/etc/os-release") if "=" in line)
beside = f"{sys.base_prefix}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
print(json.dumps({
    "base": sorted((one.name, one.version) for one in importlib.metadata.distributions(path=[beside])),
    "python": platform.python_version(),
    "distributions": sorted((one.name, one.version) for one in importlib.metadata.distributions()),
    "debian": [line.split("\\t") for line in packages.splitlines()],
    "system": {name: value.strip('"') for name, value in system.items()},
}))
"""


@dataclass(frozen=True)
class Pin:
    """A package of a lock: its version, the SHA-256 of each file that may be installed, and where it is wanted."""

    name: str
    version: str
    hashes: tuple[str, ...]
    marker: str = ""


@dataclass(frozen=True)
class Contents:
    """What is in an image, as told by the image itself."""

    python: str
    distributions: Mapping[str, str]  # version by normalised name
    debian: tuple[tuple[str, str, str], ...]  # name, version, architecture
    system: Mapping[str, str]  # /etc/os-release
    base: tuple[tuple[str, str], ...] = ()  # name, version: what the base image's Python brought along


def normalised(name: str) -> str:
    """A package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(path: Path) -> tuple[Pin, ...]:
    """The pins of a lock.

    Raises:
        DeployError: a line is no pin, or has no hash.
    """
    logical = (line.partition("#")[0].strip() for line in path.read_text().replace("\\\n", " ").splitlines())
    pins = []
    for line in filter(None, logical):
        found = re.match(r"([\w.-]+)(?:\[[\w,.-]*\])?==([^\s;]+)\s*(?:;\s*(.*?))?\s*(?=--hash=)", line)
        hashes = re.findall(r"--hash=sha256:([0-9a-f]{64})", line)
        if found is None or not hashes:
            raise DeployError(f"{path.name} holds {line[:60]!r}, expected NAME==VERSION with a --hash: make it anew")
        pins.append(Pin(normalised(found[1]), found[2], tuple(hashes), (found[3] or "").strip()))
    return tuple(pins)


def look_into(image: str, docker: str) -> tuple[str, Contents]:
    """Id and contents of an image, asked in a container without network.

    Raises:
        DeployError: the image is not there or cannot be asked.
    """
    told = subprocess.run(
        [docker, "image", "inspect", "--format", "{{.Id}}", image], capture_output=True, text=True, check=False
    )
    if told.returncode:
        raise DeployError(f"the engine has no image {image}: ./evergreen images build makes it")
    command = [docker, "run", "--rm", "--network=none", "--read-only", "--entrypoint=python", image, "-c", _PROBE]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    if asked.returncode:
        raise DeployError(f"{image} does not tell what is in it: {(asked.stderr.splitlines() or ['no output'])[-1]}")
    found = json.loads(asked.stdout)
    return told.stdout.strip(), Contents(
        python=found["python"],
        distributions={normalised(name): version for name, version in found["distributions"]},
        debian=tuple((name, version, arch) for name, version, arch, state in found["debian"] if state == "installed"),
        system=found["system"],
        base=tuple((normalised(name), version) for name, version in found["base"]),
    )


def lock_of(target: str, contents: Contents) -> Path:
    """The lock that an image was made from: the one that accounts for everything that is installed.

    Raises:
        DeployError: none does; the image holds a package or a version that no lock of it names.
    """
    strays: dict[str, list[str]] = {}
    for name in LOCKS[target]:
        pinned = {(pin.name, pin.version) for pin in read_lock(REQUIREMENTS / name)}
        strays[name] = [
            f"{key} {version}" for key, version in contents.distributions.items() if (key, version) not in pinned
        ]
        if not strays[name]:
            return REQUIREMENTS / name
    lock, left = min(strays.items(), key=lambda item: len(item[1]))
    raise DeployError(
        f"the image of {target} holds {', '.join(left[:3])}{' and more' if len(left) > 3 else ''}, "
        f"{lock} does not: build it anew"
    )


def document(image: str, image_id: str, contents: Contents, pins: Iterable[Pin], lock: str) -> dict[str, Any]:
    """The CycloneDX document of an image.

    A package of the lock has the hash of each file that the lock allows (one a platform), and the scope `required`
    where it is installed, `excluded` where it is meant for another platform or Python. Equal contents give equal
    documents.
    """
    components = [_operating_system(contents), _python(contents)]
    components += [
        _package(pin, contents.distributions) for pin in sorted(pins, key=lambda pin: (pin.name, pin.version))
    ]
    components += [_base(name, version) for name, version in contents.base]
    components += [_debian(*package, contents.system) for package in sorted(contents.debian)]
    name, _, tag = image.rpartition(":")
    described = {
        "type": "container",
        "bom-ref": image,
        "name": name,
        "version": tag,
        "hashes": [{"alg": "SHA-256", "content": image_id.removeprefix("sha256:")}],
        "properties": [{"name": "evergreen:lock", "value": lock}],
    }
    body = {"metadata": {"component": described}, "components": components}
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, digest_json(body))}",
        "version": 1,
        **body,
    }


def _component(kind: str, name: str, version: str, purl: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl, **more}


def _operating_system(contents: Contents) -> dict[str, Any]:
    name, version = contents.system.get("ID", "linux"), contents.system.get("VERSION_ID", "unknown")
    return {"type": "operating-system", "bom-ref": f"{name}-{version}", "name": name, "version": version}


def _python(contents: Contents) -> dict[str, Any]:
    return _component("platform", "cpython", contents.python, f"pkg:generic/cpython@{contents.python}")


def _package(pin: Pin, installed: Mapping[str, str]) -> dict[str, Any]:
    marker = [{"name": "evergreen:marker", "value": pin.marker}] if pin.marker else []
    return _component(
        "library",
        pin.name,
        pin.version,
        f"pkg:pypi/{pin.name}@{quote(pin.version)}",
        scope="required" if installed.get(pin.name) == pin.version else "excluded",
        hashes=[{"alg": "SHA-256", "content": digest} for digest in sorted(pin.hashes)],
        **({"properties": marker} if marker else {}),
    )


def _base(name: str, version: str) -> dict[str, Any]:
    # Outside the environment that the image runs: no lock pins it.
    purl = f"pkg:pypi/{name}@{quote(version)}"
    return {**_component("library", name, version, purl, scope="optional"), "bom-ref": f"base:{purl}"}


def _debian(name: str, version: str, architecture: str, system: Mapping[str, str]) -> dict[str, Any]:
    distribution = f"{system.get('ID', 'debian')}-{system.get('VERSION_ID', '')}".rstrip("-")
    where = f"arch={architecture}&distro={distribution}"
    purl = f"pkg:deb/{system.get('ID', 'debian')}/{quote(name)}@{quote(version)}?{where}"
    return _component("library", name, version, purl, scope="required")


def sbom(target: str, image: str, docker: str) -> dict[str, Any]:
    """The document of a target's image, after a look into it.

    Raises:
        DeployError: the image is not there, or holds what its lock does not.
    """
    image_id, contents = look_into(image, docker)
    lock = lock_of(target, contents)
    return document(image, image_id, contents, read_lock(lock), lock.name)
