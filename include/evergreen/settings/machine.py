"""Sizes of this machine, from which `auto` settings are made."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

GIB = 1024**3


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
    """Cores by affinity, memory by the cgroup limit where there is one (containers), else by the system."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        memory = min(memory, int(text))
    return Machine(cores, memory)
