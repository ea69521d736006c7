"""The ledger: append-only entries, each hashed with the one before, mirrored to a file of JSON lines.

An entry's hash is SHA-256 of the hash before it followed by the entry's canonical JSON (the first entry follows 64
zeros). The database is the truth; the mirror is written after the commit, and what a crash left out is added by the
next append or verification. Whoever can rewrite database, head count and mirror together can still forge a shorter
history: note the head's hash elsewhere and hand it to `Ledger.verify`.
"""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from evergreen.errors import LedgerError
from evergreen.lake.digest import canonical_json
from evergreen.promotion.database import ENTRIES, HEAD, create_tables, ledger_engine, ledger_folder
from evergreen.settings import Settings

LOG = logging.getLogger(__name__)
GENESIS = "0" * 64
SUCCESS, FAILURE = "success", "failure"
_PASSWORD = re.compile(r"(://[^/:@\s]+:)[^@\s]+@")


@dataclass(frozen=True)
class Entry:
    """What happened. `metrics` holds figures; `resources_affected` names like `bundle:<digest>`."""

    operation: str
    model_version: str = ""
    outcome: str = SUCCESS
    resources_affected: tuple[str, ...] = ()
    rollback_available: bool = False
    duration_seconds: float = 0.0
    metrics: Mapping[str, Any] = field(default_factory=dict)
    error_detail: str = ""
    user: str = ""  # empty: the user of this process
    command: str = ""  # empty: the command line of this process, passwords left out
    timestamp: str = ""  # ISO 8601, UTC; empty: now
    environment: str = ""  # empty: the profile
    model_name: str = ""  # empty: from settings

    @property
    def body(self) -> str:
        """Canonical JSON: what is hashed."""
        return canonical_json(asdict(self))

    @staticmethod
    def parse(body: str) -> Entry:
        """Reads a body back."""
        document = json.loads(body)
        return Entry(**(document | {"resources_affected": tuple(document["resources_affected"])}))


FIELDS = tuple(entry_field.name for entry_field in fields(Entry))


@dataclass(frozen=True)
class Sealed:
    """An entry in its place in the chain."""

    sequence: int  # from 1
    body: str
    prev_hash: str
    hash: str

    @property
    def entry(self) -> Entry:
        """The entry itself."""
        return Entry.parse(self.body)

    @property
    def line(self) -> str:
        """Its line in the mirror."""
        place = {"sequence": self.sequence, "prev_hash": self.prev_hash, "hash": self.hash}
        return canonical_json(json.loads(self.body) | place) + "\n"


@dataclass(frozen=True)
class Verification:
    """What `verify` found: `problems` in order of the entries, the first bad entry's sequence first."""

    entries: int
    head: str
    problems: tuple[str, ...]
    first_bad: int | None

    @property
    def intact(self) -> bool:
        """True where no edit was found."""
        return not self.problems

    def raise_if_broken(self) -> None:
        """Raises LedgerError naming the first bad entry."""
        if self.problems:
            raise LedgerError(f"the ledger was changed behind its back: {self.problems[0]}")


def chain_hash(prev_hash: str, body: str) -> str:
    """Hash of an entry with this body after an entry with that hash."""
    return hashlib.sha256((prev_hash + body).encode()).hexdigest()


def now_iso() -> str:
    """Now, ISO 8601 with microseconds, UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Transaction:
    """A write transaction on the ledger's database: rows and the entries about them are committed together."""

    def __init__(self, connection: Connection, environment: str, model_name: str) -> None:
        self.connection = connection
        self.added: list[Sealed] = []
        self._environment = environment
        self._model_name = model_name

    def append(self, entry: Entry) -> Sealed:
        """Adds an entry to the chain; it becomes visible with the transaction.

        Raises:
            LedgerError: the entry holds NaN or something that JSON cannot hold.
        """
        head = self.connection.execute(select(HEAD.c.entries, HEAD.c.hash).with_for_update()).one()
        try:
            body = self._complete(entry).body
        except (TypeError, ValueError) as error:
            raise LedgerError(f"ledger entry {entry.operation!r} cannot be written as JSON: {error}") from error
        sealed = Sealed(head.entries + 1, body, head.hash, chain_hash(head.hash, body))
        self.connection.execute(insert(ENTRIES).values(asdict(sealed)))
        self.connection.execute(update(HEAD).values(entries=sealed.sequence, hash=sealed.hash))
        self.added.append(sealed)
        return sealed

    def _complete(self, entry: Entry) -> Entry:
        return replace(
            entry,
            user=entry.user or current_user(),
            command=entry.command or _command_line(),
            timestamp=entry.timestamp or now_iso(),
            environment=entry.environment or self._environment,
            model_name=entry.model_name or self._model_name,
        )


class Draft:
    """What the body of `Ledger.record` adds to the entry that will be written."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry

    def add(self, **values: Any) -> None:
        """Sets fields of the entry."""
        self.entry = replace(self.entry, **values)


class Ledger:
    """The ledger of one home folder; opening it creates what is missing."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = ledger_folder(settings)
        self.mirror = self.folder / "ledger.jsonl"
        self._engine = ledger_engine(settings)
        with self._locked():
            create_tables(self._engine, FIELDS, GENESIS)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """One writer at a time, on this machine by a file lock and everywhere by the database's own.

        Nothing is written where the body raises.
        """
        with self._locked():
            self._heal_mirror()
            with self._engine.execution_options(writes=True).begin() as connection:
                transaction = Transaction(connection, self.settings.profile, self.settings.mlflow.model_name)
                yield transaction
            try:
                self._write_mirror(transaction.added)
            except OSError as error:  # it is done: a failure now would make people do it twice
                LOG.warning("%s lacks what was just committed (%s); the next entry adds it", self.mirror, error)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read transaction: one consistent state, whatever others write meanwhile."""
        with self._engine.begin() as connection:
            yield connection

    def append(self, entry: Entry) -> Sealed:
        """Appends one entry in a transaction of its own."""
        with self.transaction() as transaction:
            return transaction.append(entry)

    @contextmanager
    def record(self, operation: str, **values: Any) -> Iterator[Draft]:
        """Times the body and writes an entry about it, success or failure. What the body raises is raised again."""
        draft = Draft(Entry(operation, **values))
        began = perf_counter()
        try:
            yield draft
        except BaseException as error:
            draft.add(outcome=FAILURE, error_detail=f"{type(error).__name__}: {error}")
            raise
        finally:
            draft.add(duration_seconds=round(perf_counter() - began, 3))
            self.append(draft.entry)

    def entries(self) -> list[Sealed]:
        """All entries, oldest first."""
        with self.reading() as connection:
            return [_sealed(row) for row in connection.execute(select(ENTRIES).order_by(ENTRIES.c.sequence))]

    def verify(self, *, head: str | None = None) -> Verification:
        """Looks for any edited, deleted, reordered or cut-off entry in database and mirror.

        Args:
            head: hash of an entry as noted elsewhere; it must be in the chain.
        """
        with self._locked():
            self._heal_mirror()
            with self._engine.begin() as connection:
                chain = [_sealed(row) for row in connection.execute(select(ENTRIES).order_by(ENTRIES.c.sequence))]
                stored = connection.execute(select(HEAD.c.entries, HEAD.c.hash)).one_or_none()
            lines = _lines(self.mirror)
        problems = [*_chain_problems(chain), *_head_problems(chain, stored), *_mirror_problems(chain, lines)]
        if head is not None and head not in {sealed.hash for sealed in chain}:
            problems.append((len(chain) + 1, f"no entry has the hash {head[:12]} that was noted elsewhere"))
        problems.sort(key=lambda problem: problem[0])
        return Verification(
            len(chain),
            chain[-1].hash if chain else GENESIS,
            tuple(text for _, text in problems),
            problems[0][0] if problems else None,
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "ledger.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel lets go of it when the process dies
            yield

    def _heal_mirror(self) -> None:
        """Adds what was committed but not mirrored by a process that died in between."""
        last = _drop_torn_line(self.mirror)
        with self._engine.begin() as connection:
            rows = connection.execute(
                select(ENTRIES).where(ENTRIES.c.sequence > last).order_by(ENTRIES.c.sequence)
            ).all()
        self._write_mirror([_sealed(row) for row in rows])

    def _write_mirror(self, entries: list[Sealed]) -> None:
        if entries:
            with self.mirror.open("a") as file:
                file.writelines(sealed.line for sealed in entries)
                file.flush()
                os.fsync(file.fileno())


def current_user() -> str:
    """Name of the user of this process."""
    with suppress(KeyError, OSError):
        return getpass.getuser()
    return str(os.getuid())


def _command_line() -> str:
    name = Path(sys.argv[0]).name if sys.argv else ""
    return _PASSWORD.sub(r"\1***@", " ".join([name, *sys.argv[1:]])).strip()


def _sealed(row: Row[Any, Any]) -> Sealed:
    return Sealed(row.sequence, row.body, row.prev_hash, row.hash)


def _drop_torn_line(mirror: Path) -> int:
    """Cuts a line that a killed process left half-written; gives the sequence of the last whole one, 0 without any."""
    if not mirror.exists():
        return 0
    content = mirror.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) != len(content):
        os.truncate(mirror, len(whole))
    last = whole.splitlines()[-1] if whole else b"{}"
    try:
        return int(json.loads(last).get("sequence", 0))
    except (ValueError, AttributeError):
        return sys.maxsize  # not ours: `verify` names it, and nothing is written over it


def _lines(mirror: Path) -> list[str]:
    if not mirror.exists():
        return []
    with mirror.open(errors="replace", newline="\n") as file:
        return list(file)


Problem = tuple[int, str]


def _chain_problems(chain: list[Sealed]) -> list[Problem]:
    problems: list[Problem] = []
    before = GENESIS
    for expected, sealed in enumerate(chain, start=1):
        name = f"entry {expected}"
        if sealed.sequence != expected:
            problems.append((expected, f"{name} is missing: entry {sealed.sequence} stands in its place"))
            break
        if sealed.prev_hash != before:
            problems.append((expected, f"{name} does not follow entry {expected - 1}: its prev_hash is another one"))
        if sealed.hash != chain_hash(sealed.prev_hash, sealed.body):
            problems.append((expected, f"{name} was edited: its content does not have its hash {sealed.hash[:12]}"))
        before = sealed.hash
    return problems


def _head_problems(chain: list[Sealed], stored: Row[Any, Any] | None) -> list[Problem]:
    count, head = (stored.entries, stored.hash) if stored else (0, GENESIS)
    if count != len(chain):
        first = min(count, len(chain)) + 1
        return [(first, f"entry {first} is missing or was added: {len(chain)} entries, the head counts {count}")]
    if chain and head != chain[-1].hash:
        return [(count, f"entry {count} is not the one that the head names ({head[:12]})")]
    return []


def _mirror_problems(chain: list[Sealed], lines: list[str]) -> list[Problem]:
    for number, (sealed, line) in enumerate(zip(chain, lines, strict=False), start=1):
        if not _same_line(sealed, line):
            return [(number, f"entry {number} differs between the database and its mirror ledger.jsonl")]
    if len(lines) > len(chain):
        first = len(chain) + 1
        return [(first, f"entry {first} is missing in the database: ledger.jsonl has {len(lines)}, it {len(chain)}")]
    if len(lines) < len(chain):
        first = len(lines) + 1
        return [(first, f"entry {first} is missing in ledger.jsonl, which has {len(lines)} of {len(chain)}")]
    return []


def _same_line(sealed: Sealed, line: str) -> bool:
    try:
        return sealed.line == line
    except (TypeError, ValueError):  # the body is no JSON object any more
        return False
