"""Steps with their seconds, as people and programs read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from evergreen.system_errors import disk_full

Say = Callable[[str], object]


@dataclass
class Step:
    """One step; `detail` says what it found."""

    step: str
    seconds: float = 0.0
    detail: str = ""


@dataclass
class Steps:
    """Steps in their order; each is said when it begins."""

    say: Say = lambda _: None
    done: list[Step] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Times the body."""
        self.say(name)
        step, began = Step(name), perf_counter()
        yield step
        step.seconds = round(perf_counter() - began, 3)
        self.done.append(step)

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each step."""
        return {step.step: step.seconds for step in self.done}

    def rows(self) -> list[dict[str, Any]]:
        """All of them as JSON holds them."""
        return [{"step": one.step, "seconds": one.seconds, "detail": one.detail} for one in self.done]


@contextmanager
def full_disk_named(*folders: Path) -> Iterator[None]:
    """A full disk is told as one, with the fullest of these folders."""
    try:
        yield
    except Exception as error:
        told = disk_full(error, folders)
        if told is None or told is error:
            raise
        raise told from error
