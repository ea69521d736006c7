from __future__ import annotations

import shutil
from datetime import date

import numpy as np
import pandas as pd
import pytest

from evergreen.errors import TrainingError
from evergreen.training.dataset import HOLDOUT, INNER, TRAIN, TrainingSet
from evergreen.training.search.folds import FoldCustomers, rolling_folds
from evergreen.training.search.rows import Question, judge, prepared_rows
from evergreen.training.splits import share_of

PARAMS = {"rounds": 10, "max_depth": 3, "min_child_weight": 1.0, "bags": 1}


@pytest.fixture
def question(made_set: TrainingSet, tmp_path) -> Question:
    from evergreen.models.candidate import candidate_class
    from evergreen.models.params import resolve

    fold = rolling_folds(made_set.as_ofs, 28, 2)[1]
    customers = FoldCustomers("evergreen", 0.2, 0.8)
    params = resolve("xgboost", PARAMS, candidate_class("xgboost").ranges)
    return Question(made_set, fold, customers, "xgboost", params, 3, 1, tmp_path / "rows")


def naive(question: Question) -> dict[str, pd.DataFrame]:
    """The rows of a fold, the slow and obvious way."""
    fold, shares = question.fold, question.customers
    train = pd.read_parquet(question.training_set.file(TRAIN))
    inner = pd.read_parquet(question.training_set.file(INNER))

    def read(customer: str) -> bool:
        return share_of(f"{shares.salt}\0search\0read", customer) < shares.customers_share

    def judged(customer: str) -> bool:
        return 0.2 <= share_of(f"{shares.salt}\0search\0judge", customer) < 0.4  # the second fold's

    train = train[train["customer_id"].map(read)]
    inner = inner[inner["customer_id"].map(read) & (inner["split"] == "early_stopping")]
    learnt = [date(2024, 3, 1 + 7 * week) for week in range(4)]
    assert list(fold.train) == learnt
    others = ~train["customer_id"].map(judged)
    return {
        "train": train[train["as_of"].isin(learnt) & others],
        "stopping": inner[inner["as_of"].isin(learnt)],
        "validation": train[(train["as_of"] == date(2024, 4, 19)) & ~others],
    }


def test_a_fold_has_the_rows_of_its_dates_and_customers(question):
    found, wanted = prepared_rows(question), naive(question)
    for side, frame in wanted.items():
        sample = getattr(found, side)
        assert sample.names == ("pair_purchases", "pair_recency_days")
        np.testing.assert_array_equal(sample.matrix, frame[list(sample.names)].to_numpy(np.float32))
        np.testing.assert_array_equal(sample.labels, frame["label"])
    sides = {side: set(frame["customer_id"]) for side, frame in wanted.items()}
    assert all(sides.values())
    assert not sides["train"] & sides["validation"]
    assert not sides["stopping"] & (sides["train"] | sides["validation"])
    assert found.counts["validation_positives"] == int(wanted["validation"]["label"].sum())


def test_prepared_rows_are_found_again(question, monkeypatch):
    first = judge(question)
    monkeypatch.setattr("evergreen.training.search.rows._prepare", lambda *_: pytest.fail("prepared again"))
    assert judge(question) == first
    assert 0 < first["average_precision"] <= 1
    assert [path.name for path in question.folder.iterdir() if path.name.startswith(".")] == []


def test_the_holdout_is_not_even_opened(made_set, question, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(made_set.folder, folder)
    (folder / HOLDOUT).unlink()
    opened = TrainingSet.open(folder, made_set.digest, files=(TRAIN, INNER))
    judge(Question(**{**vars(question), "training_set": opened}))
    with pytest.raises(TrainingError, match=r"file holdout.parquet is missing"):  # control: this would notice
        TrainingSet.open(folder, made_set.digest)


def test_files_that_are_read_are_verified(made_set, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(made_set.folder, folder)
    (folder / TRAIN).write_bytes(b"other")
    with pytest.raises(TrainingError, match=r"file train.parquet was altered"):
        TrainingSet.open(folder, files=(TRAIN, INNER))


def test_a_fold_without_rows_is_refused_by_its_date(question):
    few = Question(**{**vars(question), "customers": FoldCustomers("evergreen", 0.2, 0.001)})
    with pytest.raises(
        TrainingError, match=r"judged as of 2024-04-19, rows for train: .* raise settings.training.search"
    ):
        judge(few)
