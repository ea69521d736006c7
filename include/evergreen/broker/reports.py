"""Lines in the ledger about what was refused or ended, without holding up the broker.

Nothing here waits for the ledger: lines go through a short queue to one writer. What a flood leaves out is counted by
rule, and written as one line when there is room again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from time import monotonic

from evergreen.broker.refusal import RefusedError
from evergreen.promotion.ledger import FAILURE, Entry

LOG = logging.getLogger(__name__)

REFUSED, ENDED = "refuse_container_request", "end_orphan_container"


class Reports:
    """Takes lines at any rate, writes at most `lines` in `seconds`.

    Args:
        append: writes one entry; it may block and it may fail.
        lines: how many lines may be written in that time.
        seconds: that time.
    """

    def __init__(self, append: Callable[[Entry], object], *, lines: int = 20, seconds: float = 60.0) -> None:
        self._append = append
        self._lines, self._seconds = lines, seconds
        self._queue: asyncio.Queue[Entry] = asyncio.Queue(lines)
        self._left_out: Counter[str] = Counter()
        self._writing: asyncio.Task[None] | None = None
        self.refusals = 0

    def refused(self, refusal: RefusedError, request: str, client: str) -> None:
        """A request was refused."""
        self.refusals += 1
        entry = Entry(
            REFUSED,
            outcome=FAILURE,
            resources_affected=(f"rule:{refusal.rule}",),
            error_detail=str(refusal),
            command=f"{request} from {client}",
        )
        self._put(entry, refusal.rule)

    def ended(self, container: str, why: str) -> None:
        """A container was stopped and removed."""
        entry = Entry(ENDED, resources_affected=(f"container:{container}",), error_detail=why, command="broker")
        self._put(entry, ENDED)

    def _put(self, entry: Entry, kind: str) -> None:
        try:
            self._queue.put_nowait(entry)
            LOG.warning("%s: %s (%s)", entry.operation, entry.error_detail, entry.command)
        except asyncio.QueueFull:
            self._left_out[kind] += 1

    async def run(self) -> None:
        """Writes, until it is cancelled."""
        window, written = monotonic(), 0
        while True:
            if written >= self._lines:
                await asyncio.sleep(max(0.0, window + self._seconds - monotonic()))
            if monotonic() - window >= self._seconds:
                window, written = monotonic(), 0
            await self._write(await self._queue.get())
            written += 1
            if self._left_out and self._queue.empty():
                await self._write(self._sum())
                written += 1

    async def flush(self) -> None:
        """Writes what waits, after what is being written: at the end."""
        if self._writing is not None:
            await self._writing
        while not self._queue.empty():
            await self._write(self._queue.get_nowait())
        if self._left_out:
            await self._write(self._sum())

    def _sum(self) -> Entry:
        counts, self._left_out = self._left_out, Counter()
        text = (
            f"{counts.total()} more lines were left out: {', '.join(f'{n} {rule}' for rule, n in counts.most_common())}"
        )
        return Entry(REFUSED, outcome=FAILURE, metrics=dict(counts), error_detail=text, command="broker")

    async def _write(self, entry: Entry) -> None:
        self._writing = asyncio.create_task(self._append_in_thread(entry))
        await asyncio.shield(self._writing)  # a thread cannot be cancelled: the next line must wait for it

    async def _append_in_thread(self, entry: Entry) -> None:
        try:
            await asyncio.to_thread(self._append, entry)
        except Exception:  # whatever is wrong with the ledger, the broker goes on refusing
            LOG.exception("the ledger did not take %s: %s", entry.operation, entry.error_detail)
