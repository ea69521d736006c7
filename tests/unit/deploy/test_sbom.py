"""What an image is made of: all of its lock, by version and hash, and nothing that the lock does not know."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evergreen.deploy import sbom
from evergreen.deploy.images import REQUIREMENTS
from evergreen.deploy.sbom import LOCKS, Contents, document, lock_of, read_lock
from evergreen.errors import DeployError

ID = f"sha256:{'a' * 64}"
ALL_LOCKS = sorted({lock for locks in LOCKS.values() for lock in locks})


def contents_of(lock: str, **changes: Any) -> Contents:
    """An image that holds what a lock pins for it."""
    pins = {pin.name: pin.version for pin in read_lock(REQUIREMENTS / lock) if "win32" not in pin.marker}
    system = {"ID": "debian", "VERSION_ID": "12"}
    made = Contents("3.11.9", pins, (("libgomp1", "12.2.0-14+deb12u1", "amd64"),), system, (("pip", "24.0"),))
    return replace(made, **changes)


def made(lock: str) -> dict[str, Any]:
    return document("evergreen/trainer:1.0", ID, contents_of(lock), read_lock(REQUIREMENTS / lock), lock)


@pytest.mark.parametrize("lock", ALL_LOCKS)
def test_every_package_of_the_lock_is_there_with_its_version_and_hashes(lock: str) -> None:
    """Read from the lock's text in another way than the product reads it."""
    listed = {
        (part["name"], part["version"]): {one["content"] for one in part["hashes"]}
        for part in made(lock)["components"]
        if part.get("hashes")
    }
    expected: dict[tuple[str, str], set[str]] = {}
    for line in (REQUIREMENTS / lock).read_text().splitlines():
        if found := re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)", line):
            current = expected.setdefault((found[1], found[2]), set())
        elif found := re.match(r"\s+--hash=sha256:(\w+)", line):
            current.add(found[1])
    assert len(expected) > 10
    assert listed == expected


def test_the_document_has_what_the_format_requires() -> None:
    """CycloneDX 1.6: required fields, the enumerations that are used, and unique references."""
    found = made("trainer.lock")
    assert (found["bomFormat"], found["specVersion"], found["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", found["serialNumber"])
    parts = [found["metadata"]["component"], *found["components"]]
    for part in parts:
        assert part["name"]
        assert part["version"]
        assert part["type"] in {"container", "library", "operating-system", "platform"}
        assert part.get("scope", "required") in {"required", "optional", "excluded"}
        for one in part.get("hashes", ()):
            assert set(one) == {"alg", "content"}
            assert one["alg"] == "SHA-256"
            assert re.fullmatch(r"[0-9a-f]{64}", one["content"])
        assert all(set(one) == {"name", "value"} for one in part.get("properties", ()))
    references = [part["bom-ref"] for part in parts]
    assert len(references) == len(set(references))
    assert "pkg:deb/debian/libgomp1@12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12" in references
    assert {"pkg:generic/cpython@3.11.9", "base:pkg:pypi/pip@24.0", "debian-12"} <= set(references)
    json.dumps(found)


def test_equal_contents_give_equal_documents() -> None:
    assert made("broker.lock") == made("broker.lock")
    assert made("broker.lock")["serialNumber"] != made("serving.lock")["serialNumber"]


def test_what_is_for_another_platform_is_told_apart() -> None:
    packages = [part for part in made("airflow.lock")["components"] if part.get("hashes")]
    required = {part["name"]: part["version"] for part in packages if part["scope"] == "required"}
    assert required == contents_of("airflow.lock").distributions
    assert "pywin32" in {part["name"] for part in packages if part["scope"] == "excluded"}


@pytest.mark.parametrize("lock", LOCKS["trainer"])
def test_the_trainers_lock_is_known_by_what_is_installed(lock: str) -> None:
    assert lock_of("trainer", contents_of(lock)).name == lock


@pytest.mark.parametrize(
    ("stray", "told"),
    [({"planted": "1.0"}, "planted 1.0"), ({"numpy": "1.0"}, "numpy 1.0")],
    ids=["unknown package", "other version"],
)
def test_an_image_that_holds_what_no_lock_names_is_refused(stray: dict[str, str], told: str) -> None:
    fitting = contents_of("serving.lock")
    assert lock_of("serving", fitting).name == "serving.lock", "control"
    with pytest.raises(DeployError, match=rf"the image of serving holds {told}, serving\.lock does not"):
        lock_of("serving", replace(fitting, distributions={**fitting.distributions, **stray}))


@pytest.mark.parametrize("line", ["numpy>=2 --hash=sha256:" + "0" * 64, "numpy==2.4.6"])
def test_a_line_that_pins_nothing_is_refused(tmp_path: Path, line: str) -> None:
    lock = tmp_path / "planted.lock"
    lock.write_text(f"# a comment\n{line}\n")
    with pytest.raises(DeployError, match=r"planted\.lock holds 'numpy.*expected NAME==VERSION with a --hash"):
        read_lock(lock)


def test_an_image_that_is_not_there_names_the_command(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\nexit 1\n")
    docker.chmod(0o755)
    with pytest.raises(DeployError, match=r"no image evergreen/serving:9: \./evergreen images build makes it"):
        sbom.sbom("serving", "evergreen/serving:9", str(docker))
