"""A Python job as a child process: its lines go to the task's log, its last JSON line is the result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from evergreen.errors import EvergreenError

GRACE_SECONDS = 10.0
SAID_BY_US = "evergreen: "
TRAIN_JOB = "evergreen.jobs.train"


class JobOutput:
    """What a job printed: its last line is the result, a line that begins with `evergreen: ` is a refusal."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.last = ""
        self._refusal = ""

    def add(self, line: str) -> None:
        """Takes the next line, without its end."""
        if line:
            self.last = line
            self._refusal = line.removeprefix(SAID_BY_US) if line.startswith(SAID_BY_US) else self._refusal

    def raise_if_refused(self) -> None:
        """Raises what the job itself said, as EvergreenError."""
        if self._refusal:
            raise EvergreenError(self._refusal)

    def result(self) -> dict[str, Any]:
        """The JSON object on the last line.

        Raises:
            RuntimeError: it is none.
        """
        try:
            result = json.loads(self.last)
        except ValueError:
            result = None
        if not isinstance(result, dict):
            raise RuntimeError(
                f"{self.module} ended well but its last line is no JSON object: {self.last or 'nothing'}"
            )
        return result


class JobProcess:
    """One run of `python -m module arguments` in a process group of its own, so that `kill` reaches all it started."""

    def __init__(self, module: str, arguments: Sequence[str]) -> None:
        self.module = module
        self.command = [sys.executable, "-u", "-m", module, *arguments]
        self._process: subprocess.Popen[str] | None = None

    def run(self, say: Callable[[str], object]) -> dict[str, Any]:
        """Runs to the end, passing each line to `say`, and gives the job's result.

        Raises:
            EvergreenError: the job refused; its own message.
            RuntimeError: it crashed, was killed, or printed no JSON object last.
        """
        self._process = subprocess.Popen(
            self.command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert self._process.stdout is not None  # it was asked for
        output = JobOutput(self.module)
        for line in self._process.stdout:
            if text := line.rstrip():
                say(text)
                output.add(text)
        if code := self._process.wait():
            output.raise_if_refused()
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            raise RuntimeError(f"{self.module} {how}; its last line: {output.last or 'none'}")
        return output.result()

    def kill(self) -> None:
        """Ends the job and all that it started: asked first, killed after `GRACE_SECONDS`."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
