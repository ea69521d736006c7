"""The same inputs give the same digest; an altered document is refused."""

from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from evergreen.errors import PromotionRefusedError
from evergreen.promotion.evidence import (
    code_digest,
    evidence_path,
    load_evidence,
    plain,
    save_evidence,
    write_atomically,
)
from evergreen.settings import Settings

DOCUMENT = {
    "model": {"version": "3", "bundle_digest": "b" * 64},
    "data_day": "2011-08-31",
    "champion": {"generation": 2},
    "verdict": "reject",
}


def test_a_document_is_read_back(settings: Settings) -> None:
    evidence = load_evidence(settings, save_evidence(settings, DOCUMENT))
    assert (evidence.version, evidence.bundle_digest, evidence.verdict) == ("3", "b" * 64, "reject")
    assert (evidence.data_day, evidence.generation) == (date(2011, 8, 31), 2)


def test_its_file_is_what_the_digest_is_of(settings: Settings) -> None:
    digest = save_evidence(settings, DOCUMENT)
    assert hashlib.sha256(evidence_path(settings, digest).read_bytes()).hexdigest() == digest


def test_order_and_types_of_numbers_do_not_change_the_digest(settings: Settings) -> None:
    other = dict(reversed(DOCUMENT.items())) | {"champion": {"generation": np.int64(2)}, "data_day": date(2011, 8, 31)}
    assert save_evidence(settings, other) == save_evidence(settings, DOCUMENT)


def test_any_change_changes_the_digest(settings: Settings) -> None:
    assert save_evidence(settings, DOCUMENT | {"verdict": "promote"}) != save_evidence(settings, DOCUMENT)


def test_an_altered_document_is_refused(settings: Settings) -> None:
    digest = save_evidence(settings, DOCUMENT)
    path = evidence_path(settings, digest)
    path.write_text(path.read_text().replace("reject", "promote"))
    with pytest.raises(PromotionRefusedError, match=f"evidence {digest[:12]} was altered"):
        load_evidence(settings, digest)


def test_a_missing_document_is_named(settings: Settings) -> None:
    with pytest.raises(PromotionRefusedError, match="there is no evidence aaaaaaaaaaaa"):
        load_evidence(settings, "a" * 64)


def test_nan_is_kept_as_text() -> None:
    assert plain({"x": float("nan"), "y": np.float64("-inf"), "z": np.array([1.5])}) == {
        "x": "nan",
        "y": "-inf",
        "z": [1.5],
    }
    assert plain({"days": (date(2011, 8, 31),), "names": {"b", "a"}, "path": Path("x"), "none": None, "yes": True}) == {
        "days": ["2011-08-31"],
        "names": ["a", "b"],
        "path": "x",
        "none": None,
        "yes": True,
    }


def test_a_failed_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "champion.json"
    write_atomically(path, "old")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["champion.json"]


def test_code_is_what_the_product_runs(tmp_path: Path) -> None:
    source = tmp_path / "include" / "evergreen" / "gates.py"
    source.parent.mkdir(parents=True)
    source.write_text("LIMIT = 1\n")
    before = code_digest(tmp_path)
    for other in ("docs/page.md", "tests/test_gates.py", "include/evergreen/__pycache__/gates.pyc", "include/.x/y.py"):
        (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / other).write_text("anything")
    assert code_digest(tmp_path) == before
    source.write_text("LIMIT = 2\n")
    assert code_digest(tmp_path) != before
