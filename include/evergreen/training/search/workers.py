"""Where trials run: in this process one by one, or in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from threading import Thread
from typing import Any

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Here(Executor):
    """Runs what is submitted at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """The future of a call that is over."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def workers(parallel: int, threads: int) -> Executor:
    """An executor for so many trials at once, each with so many threads.

    Processes are spawned, since a fork of a process whose libraries have threads may hang, and end with this one.
    """
    if parallel == 1:
        return Here()
    return ProcessPoolExecutor(
        parallel, multiprocessing.get_context("spawn"), initializer=_begin_worker, initargs=(threads,)
    )


def _begin_worker(threads: int) -> None:
    os.environ.update(dict.fromkeys(THREADS, str(threads)))  # before OpenMP and BLAS are loaded
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent cannot end its workers, and they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
