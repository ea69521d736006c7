"""Promotion and the ledger under kills, races and replays. Each test brings a broken variant that it must notice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from evergreen.errors import PromotionRefusedError
from evergreen.promotion import approvals, champion
from evergreen.promotion.champion import bundle_folder
from evergreen.promotion.evidence import save_evidence
from evergreen.promotion.ledger import Entry, Ledger
from evergreen.promotion.rollback import rollback
from evergreen.settings import Settings

pytestmark = pytest.mark.fault


def control(*values: Any, why: str, name: str = "control") -> Any:
    """The broken variant of a case: the test must fail on it."""
    return pytest.param(*values, id=name, marks=pytest.mark.xfail(strict=True, reason=f"control: {why}"))


def judged(settings: Settings, version: str, generation: int = 0) -> str:
    """Evidence that a version passed against a generation."""
    bundle_digest = version * 64
    bundle_folder(settings, bundle_digest).mkdir(parents=True, exist_ok=True)
    return save_evidence(
        settings,
        {
            "model": {"name": settings.mlflow.model_name, "version": version, "bundle_digest": bundle_digest},
            "data_day": "2011-08-31",
            "champion": {"generation": generation},
            "verdict": "promote",
        },
    )


def approved(settings: Settings, digest: str) -> str:
    approvals.request(settings, digest)
    return approvals.decide(settings, digest, "approved", user="ada").approval_id


def promote(settings: Settings, digest: str, approval_id: str | None, generation: int = 0) -> None:
    champion.promote(settings, digest, approval_id=approval_id, expected_generation=generation, user="airflow")


Replay = Callable[[], None]


def no_answer(settings: Settings) -> Replay:
    digest = judged(settings, "2", 1)
    return lambda: promote(settings, digest, None, 1)


def pending(settings: Settings) -> Replay:
    digest = judged(settings, "2", 1)
    asked = approvals.request(settings, digest)
    return lambda: promote(settings, digest, asked.approval_id, 1)


def rejection(settings: Settings) -> Replay:
    digest = judged(settings, "2", 1)
    approvals.request(settings, digest)
    rejected = approvals.decide(settings, digest, "rejected", user="ada")
    return lambda: promote(settings, digest, rejected.approval_id, 1)


def another_digest(settings: Settings) -> Replay:
    digest, other = judged(settings, "2", 1), judged(settings, "3", 1)
    approval_id = approved(settings, other)
    return lambda: promote(settings, digest, approval_id, 1)


def expired(settings: Settings) -> Replay:
    digest = judged(settings, "2", 1)
    approvals.request(settings, digest, expires_in=timedelta(seconds=1))
    approval_id = approvals.decide(settings, digest, "approved", user="ada").approval_id
    time.sleep(1.1)
    return lambda: promote(settings, digest, approval_id, 1)


def prepared_before_a_rollback(settings: Settings) -> Replay:
    """Version 3 was judged against 2 and approved; then 2 was rolled back; then the task that failed is cleared."""
    second = judged(settings, "2", 1)
    promote(settings, second, approved(settings, second), 1)
    third = judged(settings, "3", 2)
    approval_id = approved(settings, third)
    rollback(settings, reason="complaints", user="ada")
    return lambda: promote(settings, third, approval_id, 2)


def cleared_after_its_rollback(settings: Settings) -> Replay:
    """Version 2 was promoted and rolled back; then its promotion task is cleared and runs again."""
    second = judged(settings, "2", 1)
    approval_id = approved(settings, second)
    promote(settings, second, approval_id, 1)
    rollback(settings, reason="complaints", user="ada")
    return lambda: promote(settings, second, approval_id, 1)


APPROVAL = ("check_approval",)
CASES = {
    no_answer: APPROVAL,
    pending: APPROVAL,
    rejection: APPROVAL,
    another_digest: APPROVAL,
    expired: APPROVAL,
    prepared_before_a_rollback: ("check_generation",),
    cleared_after_its_rollback: ("check_generation", "check_approval", "check_barred"),
}


def cases() -> Iterable[Any]:
    for prepare, checks in CASES.items():
        yield pytest.param(prepare, (), id=prepare.__name__)
        yield control(prepare, checks, why=f"without {checks} it is promoted", name=f"control-{prepare.__name__}")


@pytest.mark.parametrize(("prepare", "without"), cases())
def test_it_promotes_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[Settings], Replay], without: tuple[str, ...]
) -> None:
    first = judged(settings, "1")
    promote(settings, first, approved(settings, first))
    replay = prepare(settings)
    before = champion.current(settings)
    monkeypatch.setattr(champion, "CHECKS", tuple(check for check in champion.CHECKS if check.__name__ not in without))
    with suppress(PromotionRefusedError):
        replay()
    assert champion.current(settings) == before
    last = Ledger(settings).entries()[-1].entry
    assert (last.operation, last.outcome) == ("promote", "failure")


START = """
import sys
from contextlib import nullcontext
from evergreen.errors import PromotionRefusedError
from evergreen.promotion import champion, database
from evergreen.promotion.ledger import Entry, Ledger
from evergreen.settings import load_settings
if sys.argv[1] == "unlocked":
    Ledger._locked = lambda self: nullcontext()
    database._begin = lambda connection: connection.exec_driver_sql("BEGIN")
settings = load_settings("local")
ledger = Ledger(settings)
print("ready", flush=True)
sys.stdin.readline()
"""
# Between reading and writing they wait, so that without a lock they surely meet.
PROMOTE = """
import time
read = champion._attempt
def read_and_wait(*arguments):
    found = read(*arguments)
    time.sleep(1)
    return found
champion._attempt = read_and_wait
try:
    champion.promote(settings, sys.argv[2], approval_id=sys.argv[3], expected_generation=0, user="airflow")
    print("won", flush=True)
except PromotionRefusedError:
    print("refused", flush=True)
"""
APPEND = """
import time
from evergreen.promotion.ledger import Transaction
complete = Transaction._complete
def wait_and_complete(self, entry):
    time.sleep(0.02)
    return complete(self, entry)
Transaction._complete = wait_and_complete
for number in range(int(sys.argv[2])):
    ledger.append(Entry("train", str(number), user=sys.argv[3]))
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START + code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def run_together(processes: list[subprocess.Popen[str]]) -> list[str]:
    """Lets all of them go at once when all are ready; gives the last line of each (empty where it crashed)."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    return [output.strip() for output in outputs]


@pytest.mark.parametrize(
    "lock", ["locked", control("unlocked", why="both read the same generation, and one of them crashes when it writes")]
)
def test_of_promotions_at_once_exactly_one_wins(settings: Settings, lock: str) -> None:
    evidence = [judged(settings, version) for version in "123"]
    yes = [approved(settings, digest) for digest in evidence]
    processes = [start(PROMOTE, lock, digest, one) for digest, one in zip(evidence, yes, strict=True)]
    assert sorted(run_together(processes)) == ["refused", "refused", "won"]
    assert [made.generation for made in champion.history(settings)] == [1]
    entries = [sealed.entry for sealed in Ledger(settings).entries() if sealed.entry.operation == "promote"]
    assert sorted(entry.outcome for entry in entries) == ["failure", "failure", "success"]
    assert Ledger(settings).verify().intact


@pytest.mark.parametrize("lock", ["locked", control("unlocked", why="appends get lost or crash")])
def test_appends_at_once_are_all_kept_in_one_chain(settings: Settings, lock: str) -> None:
    processes = [start(APPEND, lock, "15", f"writer {number}") for number in range(3)]
    run_together(processes)
    ledger = Ledger(settings)
    assert ledger.verify().intact
    by_writer: dict[str, list[str]] = {}
    for sealed in ledger.entries():
        by_writer.setdefault(sealed.entry.user, []).append(sealed.entry.model_version)
    assert by_writer == {f"writer {number}": [str(one) for one in range(15)] for number in range(3)}


def test_sigkill_at_random_moments_of_appending_breaks_nothing(settings: Settings) -> None:
    chance = random.Random(20)
    counts = [0]
    for _ in range(6):
        process = start("while True:\n    ledger.append(Entry('train'))", "locked")
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        process.stdin.write("go\n")
        process.stdin.flush()
        time.sleep(chance.uniform(0.05, 0.4))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        found = Ledger(settings).verify()
        assert found.intact, found.problems
        counts.append(found.entries)
    assert counts == sorted(counts)
    assert counts[-1] > 10  # the kills came while it was writing
    Ledger(settings).append(Entry("train"))
    assert Ledger(settings).verify().entries == counts[-1] + 1


KILLED_BETWEEN = """
import os, signal
Ledger._write_mirror = lambda self, entries: entries and os.kill(os.getpid(), signal.SIGKILL)
ledger.append(Entry("train", "killed"))
"""
HALF_A_LINE = """
import os, signal
def half(self, entries):
    if entries:
        with self.mirror.open("a") as file:
            file.write(entries[0].line[:40])
        os.kill(os.getpid(), signal.SIGKILL)
Ledger._write_mirror = half
ledger.append(Entry("train", "killed"))
"""


@pytest.mark.parametrize("moment", [KILLED_BETWEEN, HALF_A_LINE], ids=["before the mirror", "within its line"])
@pytest.mark.parametrize("heal", [True, control(False, why="the mirror lacks the entry")])
def test_a_kill_between_database_and_mirror_heals(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, moment: str, heal: bool
) -> None:
    ledger = Ledger(settings)
    ledger.append(Entry("train", "1"))
    run_together([start(moment, "locked")])
    if not heal:
        monkeypatch.setattr(Ledger, "_heal_mirror", lambda self: None)
    assert ledger.verify().intact
    assert [sealed.entry.model_version for sealed in ledger.entries()] == ["1", "killed"]
    assert len(ledger.mirror.read_text().splitlines()) == 2


def test_a_kill_before_the_commit_leaves_nothing(settings: Settings) -> None:
    """Champion, used approval and ledger entry are one transaction: all of them or none."""
    digest = judged(settings, "1")
    approval_id = approved(settings, digest)
    before = len(Ledger(settings).entries())
    killed = (
        "import os, signal\n"
        "made = champion.add_champion\n"
        "def add(*args, **kwargs):\n"
        "    made(*args, **kwargs)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "champion.add_champion = add\n" + PROMOTE
    )
    run_together([start(killed, "locked", digest, approval_id)])
    assert champion.current(settings) is None
    assert len(Ledger(settings).entries()) == before
    found = approvals.latest(settings, digest)
    assert found is not None
    assert found.state is approvals.State.APPROVED
    promote(settings, digest, approval_id)
    assert champion.current(settings) is not None
