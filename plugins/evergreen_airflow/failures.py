"""How tasks fail: what a person can act on is said in one line, whichever library raised it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def fails_plainly(method: Callable[P, R]) -> Callable[P, R]:
    """For what an operator runs: a full disk or a forbidden path becomes an `EvergreenError` that names it.

    The original error stays as the cause, for the log.
    """

    @functools.wraps(method)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except Exception as error:
            from evergreen.jobs.entry import told_plainly  # settings: not needed to parse a DAG

            told = told_plainly(error)
            if told is None or told is error:
                raise
            raise told from error

    return run
