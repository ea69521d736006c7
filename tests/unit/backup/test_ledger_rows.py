from __future__ import annotations

import pytest

from evergreen.backup.ledger_rows import export_rows, head_of, held_entries, import_rows, read_rows, texts
from evergreen.errors import BackupError
from evergreen.promotion.ledger import GENESIS, Entry, Ledger


@pytest.fixture
def elsewhere(settings, tmp_path):
    return settings.model_copy(update={"home": tmp_path / "elsewhere"})


def written(settings, *names: str) -> Ledger:
    ledger = Ledger(settings)
    for name in names:
        ledger.append(Entry(name, error_detail="é \u2028 '\"\n"))
    return ledger


def test_rows_through_files_are_the_same_ledger(settings, elsewhere, tmp_path):
    ledger = written(settings, "one", "two")
    for name, text in texts(export_rows(settings)).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    import_rows(elsewhere, read_rows(tmp_path))
    assert Ledger(elsewhere).entries() == ledger.entries()
    assert Ledger(elsewhere).verify().intact
    assert Ledger(elsewhere).mirror.read_text() == ledger.mirror.read_text()
    Ledger(elsewhere).append(Entry("three"))
    assert Ledger(elsewhere).verify().entries == 3


def test_an_empty_ledger(settings, elsewhere):
    written(settings)
    rows = export_rows(settings)
    assert head_of(rows) == {"entries": 0, "head": GENESIS}
    import_rows(elsewhere, rows)
    assert Ledger(elsewhere).verify().entries == 0


def test_again_is_nothing_and_another_ledger_is_refused(settings, elsewhere):
    written(settings, "one")
    rows = export_rows(settings)
    import_rows(elsewhere, rows)
    import_rows(elsewhere, rows)
    assert held_entries(elsewhere) == 1
    written(elsewhere, "later")
    with pytest.raises(BackupError, match="holds 2 entries already"):
        import_rows(elsewhere, rows, aside="replaced")


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(BackupError, match=r"approvals\.jsonl cannot be read .*expected rows of the ledger"):
        read_rows(tmp_path)
