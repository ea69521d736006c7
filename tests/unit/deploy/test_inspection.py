"""A container that is not confined is told, unless the exception is declared; what exceptions allow is no more."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from evergreen.deploy.inspection import EXCEPTIONS, inspect, judge
from tests.unit.deploy.test_compose_file import STARTS_AS_ROOT

CONFINED: dict[str, Any] = {
    "Id": "c",
    "Config": {"User": "50000:50000", "Labels": {"com.docker.compose.service": "worker"}},
    "HostConfig": {
        "ReadonlyRootfs": True, "CapDrop": ["ALL"], "CapAdd": None, "SecurityOpt": ["no-new-privileges:true"],
        "Memory": 2**30, "PidsLimit": 256, "Privileged": False, "NetworkMode": "evergreen_data", "PidMode": "",
        "IpcMode": "private",
    },
}  # fmt: skip


def container(**host: Any) -> dict[str, Any]:
    changed = copy.deepcopy(CONFINED)
    changed["HostConfig"] |= host
    return changed


def test_a_confined_one_is_as_promised() -> None:
    assert judge("worker", CONFINED, 0).problems == ()


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ({"ReadonlyRootfs": False}, "its root file system can be written"),
        ({"CapDrop": None}, "capabilities are not dropped"),
        ({"CapAdd": ["CAP_NET_ADMIN"]}, "has NET_ADMIN"),
        ({"SecurityOpt": None}, "may gain privileges"),
        ({"SecurityOpt": ["no-new-privileges:false"]}, "may gain privileges"),
        ({"Memory": 0}, "has no limit of memory"),
        ({"PidsLimit": None}, "has no limit of processes"),
        ({"PidsLimit": -1}, "has no limit of processes"),
        ({"Privileged": True}, "is privileged"),
        ({"PidMode": "host"}, "shares PidMode with the machine"),
        ({"NetworkMode": "host"}, "shares NetworkMode with the machine"),
    ],
)
def test_each_looseness_is_told(host: dict[str, Any], told: str) -> None:
    assert judge("worker", container(**host), 0).problems == (told,)


@pytest.mark.parametrize("user", ["", "root", "0:0"])
def test_who_starts_as_root_is_told(user: str) -> None:
    rooted = copy.deepcopy(CONFINED)
    rooted["Config"]["User"] = user
    assert "starts as root" in judge("worker", rooted, 0).problems
    assert judge("worker", CONFINED, 2).problems == ("2 processes run as root",)


def test_an_exception_allows_what_it_says_and_no_more() -> None:
    postgres = container(CapAdd=sorted(EXCEPTIONS["postgres"].capabilities))
    postgres["Config"]["User"] = ""
    assert judge("postgres", postgres, 1).problems == ()
    assert judge("postgres", postgres, 2).problems == ("2 processes run as root",)
    postgres["HostConfig"]["CapAdd"].append("SYS_ADMIN")
    assert judge("postgres", postgres, 1).problems == ("has SYS_ADMIN",)
    assert judge("worker", postgres, 1).problems[0] == "starts as root"


def test_exceptions_are_those_of_the_compose_file() -> None:
    assert {name: set(one.capabilities) for name, one in EXCEPTIONS.items()} == STARTS_AS_ROOT


def test_trainers_of_the_environment_are_looked_at_too() -> None:
    class FakeEngine:
        def containers(self, *labels: str) -> list[dict[str, Any]]:
            return [CONFINED] if labels[0].endswith("=evergreen-staging") else []

        def processes(self, container: str) -> list[str]:
            return ["50000"]

    engine: Any = FakeEngine()
    assert [one.service for one in inspect(engine, "evergreen-staging")] == ["trainer", "worker"]
    assert inspect(engine, "evergreen") == []
