"""The ledger gets its lines, and cannot hold the broker up."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from time import monotonic, sleep

from evergreen.broker.refusal import RefusedError, Rule
from evergreen.broker.reports import Reports
from evergreen.promotion.ledger import Entry, Ledger
from evergreen.settings import Settings

REFUSAL = RefusedError(Rule.PRIVILEGED, "HostConfig.Privileged is true", "must be left out")


async def run_for(reports: Reports, seconds: float) -> None:
    task = asyncio.create_task(reports.run())
    await asyncio.sleep(seconds)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def test_a_refusal_stands_in_the_ledger(settings: Settings) -> None:
    async def go() -> None:
        reports = Reports(lambda entry: Ledger(settings).append(entry))
        reports.refused(REFUSAL, "POST /containers/create", "10.0.0.3")
        await reports.flush()

    asyncio.run(go())
    ledger = Ledger(settings)
    assert ledger.verify().intact
    entry = ledger.entries()[-1].entry
    assert entry.error_detail == "privileged: HostConfig.Privileged is true, must be left out"
    assert entry.command == "POST /containers/create from 10.0.0.3"


def test_a_flood_leaves_few_lines_that_tell_how_many_there_were() -> None:
    written: list[Entry] = []

    async def go() -> None:
        reports = Reports(written.append, lines=5, seconds=0.5)
        for _ in range(1000):
            reports.refused(REFUSAL, "POST /containers/create", "10.0.0.3")
        await run_for(reports, 1.5)
        assert reports.refusals == 1000

    asyncio.run(go())
    assert len(written) <= 7
    told = sum(entry.metrics.get("privileged", 1) for entry in written)
    assert told == 1000
    assert "more lines were left out: 995 privileged" in written[-1].error_detail


def test_lines_keep_their_order_when_the_writer_is_cancelled_in_one() -> None:
    written: list[str] = []

    def append(entry: Entry) -> None:
        sleep(0.3 if entry.command.startswith("0") else 0)
        written.append(entry.command)

    async def go() -> None:
        reports = Reports(append)
        for number in range(3):
            reports.refused(REFUSAL, str(number), "y")
        await run_for(reports, 0.1)
        await reports.flush()

    asyncio.run(go())
    assert written == ["0 from y", "1 from y", "2 from y"]


def test_a_ledger_that_fails_is_survived() -> None:
    written: list[Entry] = []

    def append(entry: Entry) -> None:
        written.append(entry)
        if len(written) == 1:
            raise OSError("disk full")

    async def go() -> None:
        reports = Reports(append)
        for _ in range(3):
            reports.refused(REFUSAL, "x", "y")
        await run_for(reports, 0.5)

    asyncio.run(go())
    assert len(written) == 3


def test_a_ledger_that_hangs_holds_nobody_up() -> None:
    release = threading.Event()

    async def go() -> float:
        reports = Reports(lambda entry: release.wait(20))
        task = asyncio.create_task(reports.run())
        reports.refused(REFUSAL, "x", "y")
        await asyncio.sleep(0.1)
        began = monotonic()
        for _ in range(200):
            reports.refused(REFUSAL, "x", "y")
            await asyncio.sleep(0)
        took = monotonic() - began
        release.set()
        task.cancel()
        return took

    assert asyncio.run(go()) < 2
