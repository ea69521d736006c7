"""Sizes of this machine, from which `auto` settings are made."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

GIB = 1024**3
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Machine:
    """Cores and memory that this process may use."""

    cores: int
    memory_bytes: int

    @property
    def spark_memory_gib(self) -> int:
        """A quarter of the memory, between 1 and 32 GiB: Airflow, the browser and training need the rest."""
        return max(1, min(32, self.memory_bytes // GIB // 4))

    @property
    def shuffle_partitions(self) -> int:
        """Four tasks a core: enough to balance, few enough not to pay Spark's 200 task starts on a laptop."""
        return max(4, 2 * self.cores)


def this_machine() -> Machine:
    """Cores by affinity and memory by the system, less where a container's limits say so."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = container_limits()
    return Machine(min(cores, limits.cores or cores), min(memory, limits.memory_bytes or memory))


@dataclass(frozen=True)
class Limits:
    """What a container may use; None where nothing is said."""

    cores: int | None
    memory_bytes: int | None


def container_limits(cgroups: Path = CGROUPS) -> Limits:
    """Limits of the kernel's control groups, version 2 (one folder) or 1 (a folder a controller).

    A part of a core counts as a whole one: a process on one core has that to plan with. Version 1 says "no limit" with
    -1 or with a number of bytes that no machine has.
    """
    quota, period = [*_words(cgroups / "cpu.max"), "", ""][:2]
    memory = _number(cgroups / "memory.max")
    if not quota:
        quota, period = (" ".join(_words(cgroups / "cpu" / f"cpu.cfs_{name}_us")) for name in ("quota", "period"))
    if memory is None:
        memory = _number(cgroups / "memory" / "memory.limit_in_bytes")
    limited = quota.isdigit() and period.isdigit() and int(quota) > 0 and int(period) > 0
    return Limits(math.ceil(int(quota) / int(period)) if limited else None, memory)


def _number(file: Path) -> int | None:
    words = _words(file)
    return int(words[0]) if words and words[0].isdigit() and int(words[0]) > 0 else None


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
