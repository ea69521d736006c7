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
        last, refusal = "", ""
        for line in self._process.stdout:
            if text := line.rstrip():
                say(text)
                last = text
                refusal = text.removeprefix(SAID_BY_US) if text.startswith(SAID_BY_US) else refusal
        code = self._process.wait()
        if code and refusal:
            raise EvergreenError(refusal)
        if code:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            raise RuntimeError(f"{self.module} {how}; its last line: {last or 'none'}")
        return _result(self.module, last)

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


def _result(module: str, line: str) -> dict[str, Any]:
    try:
        result = json.loads(line)
    except ValueError:
        result = None
    if not isinstance(result, dict):
        raise RuntimeError(f"{module} ended well but its last line is no JSON object: {line or 'nothing'}")
    return result
