"""Any edit of the ledger is found and named; what happened is written, whatever happened."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from evergreen.errors import LedgerError
from evergreen.promotion.database import audit_log_view
from evergreen.promotion.ledger import FIELDS, GENESIS, Entry, Ledger, chain_hash
from evergreen.settings import Settings

REQUIRED_FIELDS = {
    "timestamp",
    "user",
    "environment",
    "operation",
    "model_name",
    "model_version",
    "command",
    "outcome",
    "resources_affected",
    "rollback_available",
    "duration_seconds",
    "metrics",
    "error_detail",
}
ENTRIES = 6


@pytest.fixture
def ledger(settings: Settings) -> Ledger:
    """A ledger of six entries."""
    made = Ledger(settings)
    for number in range(1, ENTRIES + 1):
        made.append(Entry("train", str(number), metrics={"roc_auc": 0.8 + number / 100}))
    return made


class Editor:
    """Someone with a shell and sqlite3, who knows about the triggers."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.database = ledger.folder / "ledger.db"

    def run(self, *statements: str) -> None:
        connection = sqlite3.connect(self.database)
        for trigger in ("ledger_entries_no_update", "ledger_entries_no_delete"):
            connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()

    def rewrite_from(self, first: int, body: str) -> None:
        """Edits an entry and recomputes every hash after it, and the head: the database is consistent again."""
        connection = sqlite3.connect(self.database)
        connection.execute("DROP TRIGGER IF EXISTS ledger_entries_no_update")
        rows = connection.execute("SELECT sequence, body, prev_hash FROM ledger_entries ORDER BY sequence").fetchall()
        before = rows[first - 1][2]
        for sequence, old_body, _ in rows[first - 1 :]:
            new_body = body if sequence == first else old_body
            after = chain_hash(before, new_body)
            connection.execute(
                "UPDATE ledger_entries SET body = ?, prev_hash = ?, hash = ? WHERE sequence = ?",
                (new_body, before, after, sequence),
            )
            before = after
        connection.execute("UPDATE ledger_head SET hash = ?", (before,))
        connection.commit()
        connection.close()


@pytest.fixture
def editor(ledger: Ledger) -> Editor:
    return Editor(ledger)


def test_an_untouched_ledger_is_intact(ledger: Ledger) -> None:
    found = ledger.verify()
    assert found.intact
    assert (found.entries, found.first_bad) == (ENTRIES, None)
    found.raise_if_broken()


def test_an_entry_has_every_field_and_is_also_a_row_of_the_audit_log(ledger: Ledger) -> None:
    assert set(FIELDS) == REQUIRED_FIELDS
    last = json.loads(ledger.mirror.read_text().splitlines()[-1])
    assert set(last) > REQUIRED_FIELDS
    with ledger.reading() as connection:
        rows = connection.exec_driver_sql("SELECT operation, model_version, environment FROM audit_log").all()
    assert rows[0] == ("train", "1", "local")
    assert len(rows) == ENTRIES


def test_the_chain_can_be_checked_without_our_code(ledger: Ledger) -> None:
    """An independent reading of the mirror: SHA-256 of the hash before and the entry without its place."""
    before = "0" * 64
    for line in ledger.mirror.read_text().splitlines():
        entry = json.loads(line)
        stated, prev_hash = entry.pop("hash"), entry.pop("prev_hash")
        entry.pop("sequence")
        body = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert prev_hash == before
        assert hashlib.sha256((before + body).encode()).hexdigest() == stated
        before = stated


@pytest.mark.parametrize("statement", ["UPDATE ledger_entries SET body = '{}'", "DELETE FROM ledger_entries"])
def test_the_database_itself_refuses_changes(ledger: Ledger, statement: str) -> None:
    with (
        pytest.raises(IntegrityError, match="ledger_entries is append-only"),
        ledger.transaction() as transaction,
    ):
        transaction.connection.exec_driver_sql(statement)
    assert ledger.verify().intact


@examples(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_single_edit_in_the_database_is_found_and_named(
    tmp_path_factory: pytest.TempPathFactory, settings: Settings, data: st.DataObject
) -> None:
    ledger = Ledger(settings.model_copy(update={"home": tmp_path_factory.mktemp("ledger")}))
    for number in range(1, ENTRIES + 1):
        ledger.append(Entry("train", str(number)))
    editor = Editor(ledger)
    first = data.draw(st.integers(1, ENTRIES - 1), "entry")
    other = data.draw(st.integers(first + 1, ENTRIES), "other entry")
    field = data.draw(st.sampled_from(["body", "hash", "prev_hash"]), "field")
    edits = {
        "change": [f"UPDATE ledger_entries SET {field} = replace({field}, substr({field}, 5, 1), 'x') || ' '"],
        "delete": ["DELETE FROM ledger_entries"],
        "space": ["UPDATE ledger_entries SET body = body || ' '"],
    }
    where = f" WHERE sequence = {first}"
    kind = data.draw(st.sampled_from([*edits, "swap", "cut", "cut and count", "copy"]), "edit")
    if kind == "swap":
        statements = [
            f"UPDATE ledger_entries SET sequence = -1 WHERE sequence = {first}",
            f"UPDATE ledger_entries SET sequence = {first} WHERE sequence = {other}",
            f"UPDATE ledger_entries SET sequence = {other} WHERE sequence = -1",
        ]
    elif kind == "copy":
        statements = [
            f"INSERT INTO ledger_entries SELECT {ENTRIES + 1}, body, prev_hash, hash FROM ledger_entries{where}"
        ]
    elif kind.startswith("cut"):
        statements = [f"DELETE FROM ledger_entries WHERE sequence >= {first}"]
    else:
        statements = [edits[kind][0] + where]
    if kind == "cut and count":
        statements.append(
            f"UPDATE ledger_head SET entries = {first - 1}, hash = coalesce((SELECT hash FROM ledger_entries WHERE "
            f"sequence = {first - 1}), '{GENESIS}')"
        )
    editor.run(*statements)
    found = ledger.verify()
    assert found.first_bad == (ENTRIES + 1 if kind == "copy" else first)
    assert f"entry {found.first_bad}" in found.problems[0]
    with pytest.raises(LedgerError, match="changed behind its back"):
        found.raise_if_broken()


def test_a_rewritten_chain_differs_from_the_mirror(ledger: Ledger, editor: Editor) -> None:
    body = Entry("train", "9", user="nobody", timestamp="2011-01-01").body
    editor.rewrite_from(3, body)
    assert ledger.verify().first_bad == 3


def test_control_without_the_mirror_a_rewritten_chain_would_pass(ledger: Ledger, editor: Editor) -> None:
    editor.rewrite_from(3, Entry("train", "9", user="nobody", timestamp="2011-01-01").body)
    ledger.mirror.unlink()
    assert ledger.verify().intact


def test_a_head_noted_elsewhere_finds_even_a_rewrite_of_everything(ledger: Ledger, editor: Editor) -> None:
    noted = ledger.verify().head
    editor.rewrite_from(3, Entry("train", "9", user="nobody", timestamp="2011-01-01").body)
    ledger.mirror.unlink()
    found = ledger.verify(head=noted)
    assert not found.intact
    assert noted[:12] in found.problems[0]


def test_a_noted_head_stays_good_while_the_ledger_grows(ledger: Ledger) -> None:
    noted = ledger.verify().head
    ledger.append(Entry("train", "7"))
    assert ledger.verify(head=noted).intact


@pytest.mark.parametrize(
    ("edit", "first_bad"),
    [
        (lambda lines: [*lines[:2], lines[2].replace('"train"', '"trail"'), *lines[3:]], 3),
        (lambda lines: [lines[1], lines[0], *lines[2:]], 1),
        (lambda lines: [*lines[:3], *lines[4:]], 4),
        (lambda lines: [*lines, lines[-1]], ENTRIES + 1),
        (lambda lines: [*lines[:-1], "garbage\n"], ENTRIES),
        (lambda lines: [*lines[:-1], "[]\n"], ENTRIES),
    ],
)
def test_an_edit_of_the_mirror_is_found(ledger: Ledger, edit, first_bad: int) -> None:
    lines = ledger.mirror.read_text().splitlines(keepends=True)
    ledger.mirror.write_text("".join(edit(lines)))
    assert ledger.verify().first_bad == first_bad


def test_entries_that_follow_an_edit_do_not_hide_it(ledger: Ledger, editor: Editor) -> None:
    """The database lost its tail and the head was set back: later entries must not cover the mirror's."""
    editor.run(
        "DELETE FROM ledger_entries WHERE sequence = 6",
        "UPDATE ledger_head SET entries = 5, hash = (SELECT hash FROM ledger_entries WHERE sequence = 5)",
    )
    ledger.append(Entry("train", "another 6"))
    ledger.append(Entry("train", "7"))
    assert ledger.verify().first_bad == 6


def test_a_mirror_that_fell_behind_is_completed(ledger: Ledger) -> None:
    whole = ledger.mirror.read_text()
    lines = whole.splitlines(keepends=True)
    ledger.mirror.write_text("".join(lines[:4]) + lines[4][:20])
    assert ledger.verify().intact
    assert ledger.mirror.read_text() == whole


def test_an_append_completes_the_mirror_first(ledger: Ledger) -> None:
    ledger.mirror.write_text("".join(ledger.mirror.read_text().splitlines(keepends=True)[:2]))
    ledger.append(Entry("train", "7"))
    assert [json.loads(line)["sequence"] for line in ledger.mirror.read_text().splitlines()] == list(range(1, 8))


def test_a_malformed_body_is_a_finding_and_no_crash(ledger: Ledger, editor: Editor) -> None:
    editor.run("UPDATE ledger_entries SET body = 'no json' WHERE sequence = 2")
    assert ledger.verify().first_bad == 2


def test_success_and_failure_are_recorded_with_their_time(ledger: Ledger) -> None:
    with ledger.record("train_candidates", model_version="8", user="ada") as draft:
        draft.add(metrics={"roc_auc": 0.83}, resources_affected=("bundle:abc",))
    with pytest.raises(ValueError, match="no labels"), ledger.record("train_candidates"):
        raise ValueError("no labels")
    good, bad = (sealed.entry for sealed in ledger.entries()[-2:])
    assert (good.outcome, good.user, good.metrics, good.resources_affected) == (
        "success",
        "ada",
        {"roc_auc": 0.83},
        ("bundle:abc",),
    )
    assert good.duration_seconds >= 0
    assert (bad.outcome, bad.error_detail) == ("failure", "ValueError: no labels")


def test_what_json_cannot_hold_is_refused_and_nothing_is_written(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="'train' cannot be written as JSON"):
        ledger.append(Entry("train", metrics={"roc_auc": float("nan")}))
    assert ledger.verify().entries == ENTRIES


def test_nothing_is_written_where_a_transaction_fails(ledger: Ledger) -> None:

    def half_way() -> None:
        with ledger.transaction() as transaction:
            transaction.append(Entry("promote", "7"))
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError):
        half_way()
    assert ledger.verify().entries == ENTRIES
    assert len(ledger.mirror.read_text().splitlines()) == ENTRIES


def test_passwords_do_not_reach_the_ledger(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/opt/evergreen", "run", "--source", "postgresql://eva:secret@db/shop"])
    ledger.append(Entry("run"))
    assert ledger.entries()[-1].entry.command == "evergreen run --source postgresql://eva:***@db/shop"


def test_odd_texts_survive(ledger: Ledger) -> None:
    """Line separators that Python would split at, quotes and letters of other scripts."""
    ledger.append(Entry("note", error_detail='a\u2028b\u0085c\n"d" ЖŠ'))
    assert ledger.verify().intact
    assert ledger.entries()[-1].entry.error_detail == 'a\u2028b\u0085c\n"d" ЖŠ'


def test_the_ledger_can_live_at_another_address(settings: Settings, tmp_path: Path) -> None:
    promotion = settings.promotion.model_copy(update={"ledger_url": f"sqlite:///{tmp_path / 'elsewhere.db'}"})
    ledger = Ledger(settings.model_copy(update={"promotion": promotion}))
    ledger.append(Entry("train"))
    assert (tmp_path / "elsewhere.db").exists()
    assert ledger.verify().entries == 1


@pytest.mark.parametrize(
    ("dialect", "column"),
    [
        ("sqlite", "json_extract(body, '$.user') AS \"user\""),
        ("postgresql", "body::json ->> 'user' AS \"user\""),
    ],
)
def test_the_audit_log_is_a_view_in_the_words_of_its_database(dialect: str, column: str) -> None:
    statement = audit_log_view(dialect, ("user", "outcome"))
    assert statement.startswith("CREATE VIEW audit_log AS SELECT sequence, ")
    assert column in statement
