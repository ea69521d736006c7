"""Rollback drills: a change of each kind is made, seen, gone back from, and what was before is seen again."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evergreen.deploy.changes import CHANGES
from evergreen.deploy.looks import differences, look
from evergreen.deploy.stack import Stack
from evergreen.errors import DeployError, EvergreenError
from evergreen.files import write_whole
from evergreen.settings.machine import GIB, this_machine

LIMIT_SECONDS = 300.0


@dataclass(frozen=True)
class Drilled:
    """What a drill of one kind showed."""

    kind: str
    change: str
    seen: tuple[str, ...]  # what looked different while the change was there
    change_seconds: float
    back_seconds: float
    validate_seconds: float
    left: tuple[str, ...]  # what is not as it was before
    compared: int  # values that were compared
    problem: str = ""  # why it was not drilled

    @property
    def passed(self) -> bool:
        """Everything is as before, within the limit."""
        return not self.problem and not self.left and self.back_seconds + self.validate_seconds <= LIMIT_SECONDS


def run_drills(stack: Stack, kinds: Sequence[str] = (), *, anywhere: bool = False) -> list[Drilled]:
    """Drills one kind after the other, and tells the ledger.

    Args:
        stack: the environment; its newest release is healthy.
        kinds: names of `CHANGES`; all where none is given.
        anywhere: also where the environment is not staging.

    Raises:
        DeployError: refused before anything was changed; or a change could not be made or gone back from.
    """
    if unknown := sorted(set(kinds) - set(CHANGES)):
        raise DeployError(f"there is no drill {unknown[0]!r}, expected some of: {', '.join(CHANGES)}")
    if stack.options.environment != "staging" and not anywhere:
        raise DeployError(f"a drill restarts services of {stack.options.environment}: use staging, or say --yes")
    if waiting := [state for state in stack.now().states() if not state.ready]:
        raise DeployError(f"{waiting[0].service} is {waiting[0].text}: a drill begins with everything healthy")
    if stack.history.begun():
        raise DeployError("the release that was started last never became healthy: go back from it, or deploy again")
    _refuse_busy(stack)
    done = []
    for kind in kinds or CHANGES:
        done.append(one := _drill(stack, kind))
        stack.now().record(
            stack.history.all()[-1],
            {
                "operation": "rollback_drill",
                "outcome": "success" if one.passed else "failure",
                "command": f"evergreen deploy --environment {stack.options.environment} --drill {kind}",
                "duration_seconds": one.back_seconds + one.validate_seconds,
                "metrics": asdict(one),
                "error_detail": one.problem or ", ".join(one.left),
            },
        )
    return done


def write_record(stack: Stack, done: Sequence[Drilled], file: Path) -> None:
    """Writes what was drilled beside what the file holds of other kinds."""
    engine = stack.engine.info()
    machine = this_machine()
    about = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"./evergreen deploy --environment {stack.options.environment} --drill",
        "release": stack.history.all()[-1].tag,
        "machine": {
            "cores": machine.cores,
            "memory_gib": round(machine.memory_bytes / GIB, 1),
            "engine": engine.get("ServerVersion", ""),
            "system": f"{platform.system()} {platform.machine()}",
        },
    }
    kinds: dict[str, Any] = json.loads(file.read_text())["kinds"] if file.exists() else {}
    kinds |= {one.kind: {**about, **asdict(one), "passed": one.passed} for one in done}
    document = {"limit_seconds": LIMIT_SECONDS, "kinds": {kind: kinds[kind] for kind in CHANGES if kind in kinds}}
    write_whole(file, json.dumps(document, indent=1) + "\n")


def _drill(stack: Stack, kind: str) -> Drilled:
    stack.say(f"drill: {kind}")
    before = look(stack)
    change = CHANGES[kind](stack, before)
    if problem := change.impossible():
        return Drilled(kind, change.told, (), 0.0, 0.0, 0.0, (), len(before), problem)
    began = time.monotonic()
    try:
        change.make()
        made = time.monotonic() - began
        seen = differences(before, look(stack))
        if unseen := [name for name in change.shows if name not in seen]:
            raise DeployError(f"the change cannot be seen in {', '.join(unseen)}: a drill of it would show nothing")
    except EvergreenError:
        with suppress(EvergreenError):  # why it could not be made is what people must read
            change.undo()
            change.clean()
        raise
    began = time.monotonic()
    change.go_back()
    back = time.monotonic() - began
    began = time.monotonic()
    left = [name for name in differences(before, look(stack)) if name not in change.free]
    validated = time.monotonic() - began
    change.clean()
    return Drilled(
        kind, change.told, tuple(seen), round(made, 1), round(back, 1), round(validated, 1), tuple(left), len(before)
    )


def _refuse_busy(stack: Stack) -> None:
    busy = [run for run in stack.now().client.dag_runs("~") if run["state"] in ("running", "queued")]
    if busy:
        raise DeployError(f"{len(busy)} run(s) are under way, such as {busy[0]['dag_id']}: wait until they end")
