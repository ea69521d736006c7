"""Limits of a container, as the kernel's control groups tell them in both of their versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from evergreen.settings import machine as module
from evergreen.settings.machine import GIB, Limits, container_limits, this_machine

UNLIMITED = "9223372036854771712\n"  # version 1 has no other word for it


def cgroups(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, Limits(None, None), id="no control groups"),
        pytest.param({"cpu.max": "max 100000\n", "memory.max": "max\n"}, Limits(None, None), id="v2, unlimited"),
        pytest.param({"cpu.max": "200000 100000\n", "memory.max": f"{GIB}\n"}, Limits(2, GIB), id="v2"),
        pytest.param({"cpu.max": "150000 100000\n"}, Limits(2, None), id="v2, a core and a half"),
        pytest.param({"cpu.max": "", "memory.max": ""}, Limits(None, None), id="v2, empty files"),
        pytest.param(
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            Limits(None, None),
            id="v1, unlimited",
        ),
        pytest.param(
            {
                "cpu/cpu.cfs_quota_us": "50000\n",
                "cpu/cpu.cfs_period_us": "100000\n",
                "memory/memory.limit_in_bytes": f"{3 * GIB}\n",
            },
            Limits(1, 3 * GIB),
            id="v1",
        ),
        pytest.param(
            {"cpu/cpu.cfs_quota_us": "400000\n", "memory/memory.limit_in_bytes": f"{GIB}\n"},
            Limits(None, GIB),
            id="v1, a quota of no period",
        ),
        pytest.param(
            {"memory.max": f"{GIB}\n", "memory/memory.limit_in_bytes": f"{2 * GIB}\n"},
            Limits(None, GIB),
            id="both: v2 counts",
        ),
    ],
)
def test_limits_of_both_versions(tmp_path: Path, files: dict[str, str], expected: Limits) -> None:
    assert container_limits(cgroups(tmp_path, files)) == expected


def test_a_limit_counts_where_it_is_less_than_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "container_limits", lambda: Limits(None, None))
    whole = this_machine()
    for limits in (Limits(10_000, int(UNLIMITED)), Limits(whole.cores, whole.memory_bytes)):
        monkeypatch.setattr(module, "container_limits", lambda limits=limits: limits)
        assert this_machine() == whole
    monkeypatch.setattr(module, "container_limits", lambda: Limits(1, 1234))
    assert (this_machine().cores, this_machine().memory_bytes) == (1, 1234)
