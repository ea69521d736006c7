"""The sample is what it says: its size, its dirt, its truth, and days that later days never change."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from evergreen.errors import SourceError
from evergreen.ingest.sample import SCHEMA, generate, last_day, sample_file, true_probabilities, write_sample
from evergreen.ingest.sources import resolve_source
from evergreen.ingest.stage import stage_transactions
from evergreen.lake import Lake, publish_set
from evergreen.settings import Settings
from evergreen.settings.sample import SampleSettings

SMALL = SampleSettings(lines=12_000, first_day=date(2024, 1, 1), day=date(2024, 12, 31), extra_days=20)
YEAR = SampleSettings(lines=150_000, first_day=date(2024, 1, 1), day=date(2025, 6, 30), extra_days=0)
HORIZON = 28


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return pq.read_table(generate(SMALL, tmp_path_factory.mktemp("small"))).to_pandas()


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Purchases of a year and a half as the contract sees them: customer, product, day."""
    lines = pq.read_table(generate(YEAR, tmp_path_factory.mktemp("year"))).to_pandas()
    bought = (lines["Quantity"] > 0) & lines["Customer ID"].notna() & lines["StockCode"].str.match(r"\d{5}")
    lines = lines[bought & (lines["Price"] > 0) & ~lines["Invoice"].str.startswith("C")].copy()
    lines["day"] = pd.to_datetime(lines["InvoiceDate"], errors="coerce").dt.normalize()
    lines["customer_id"] = lines["Customer ID"].astype("int64").astype(str)
    return lines.dropna(subset=["day"]).rename(columns={"StockCode": "product_id"})


def truth_and_outcome(year: pd.DataFrame, as_of: date) -> pd.DataFrame:
    truth = true_probabilities(YEAR, as_of, HORIZON)
    start = pd.Timestamp(as_of)
    window = year[(year["day"] >= start) & (year["day"] < start + pd.Timedelta(days=HORIZON))]
    before = year[(year["day"] < start) & (year["day"] >= start - pd.Timedelta(days=365))]
    frequency = before.groupby(["customer_id", "product_id"])["day"].nunique().rename("frequency").reset_index()
    found = truth.merge(frequency, how="outer", validate="one_to_one", indicator=True)
    assert (found["_merge"] == "both").all()  # the truth speaks of exactly the pairs that were bought within 365 days
    again = window[["customer_id", "product_id"]].drop_duplicates().assign(label=1)
    return found.merge(again, how="left").fillna({"label": 0})


@pytest.mark.parametrize("as_of", [date(2025, 3, 3), date(2025, 6, 1), date(2024, 11, 1)])
def test_the_true_probabilities_are_calibrated(year: pd.DataFrame, as_of: date) -> None:
    """Overall and by tenths: a customer's pairs share visits, so sampling errors are taken over customers."""
    pairs = truth_and_outcome(year, as_of)
    tenth = pd.qcut(pairs["probability"].rank(method="first"), 10, labels=False)
    for chosen in (slice(None), *(tenth == number for number in range(10))):
        some = pairs[chosen] if not isinstance(chosen, slice) else pairs
        excess = (some["label"] - some["probability"]).groupby(some["customer_id"]).sum()
        error = max(np.sqrt((excess**2).sum()), 1.0)
        assert abs(excess.sum()) / error < 4.0


def test_the_truth_is_worth_knowing(year: pd.DataFrame) -> None:
    pairs = truth_and_outcome(year, date(2025, 6, 1))
    assert 0.03 < pairs["label"].mean() < 0.08
    oracle = roc_auc_score(pairs["label"], pairs["probability"])
    assert oracle > 0.85
    assert oracle > roc_auc_score(pairs["label"], pairs["frequency"]) + 0.1


def test_the_truth_cannot_be_told_from_the_wrong_customers(year: pd.DataFrame) -> None:
    """The control of the calibration test: the same probabilities, dealt out wrongly, do not stand it."""
    pairs = truth_and_outcome(year, date(2025, 6, 1))
    wrong = pairs["probability"].sample(frac=1, random_state=1).to_numpy()
    top = wrong > np.quantile(wrong, 0.9)
    assert pairs["label"][top].mean() < 0.5 * wrong[top].mean()


def test_the_size_and_the_columns(small: pd.DataFrame) -> None:
    assert list(small) == SCHEMA.names
    in_time = small[small["InvoiceDate"] < "2025-01-01"]
    assert 0.8 * SMALL.lines < len(in_time) < 1.2 * SMALL.lines
    assert 0.12 < small["Customer ID"].isna().mean() < 0.3


def test_no_saturdays_and_a_season(small: pd.DataFrame) -> None:
    days = pd.to_datetime(small["InvoiceDate"], errors="coerce").dropna()
    assert 5 not in set(days.dt.dayofweek)
    months = days[days < "2025-01-01"].dt.month.value_counts()
    assert months[11] > 1.4 * months[[3, 4, 5]].mean()
    assert not ((days.dt.month == 12) & (days.dt.day == 25)).any()


def test_there_is_everything_that_real_files_have(small: pd.DataFrame) -> None:
    assert small["Invoice"].str.startswith("C").mean() > 0.005
    assert (small["Quantity"] < 0).any()
    assert {"POST", "M", "BANK CHARGES"} <= set(small["StockCode"])
    assert small.duplicated().sum() > 10
    assert small["Description"].isna().any()
    assert small["Country"].nunique() > 3
    products = small[small["StockCode"].str.match(r"\d{5}")]
    prices = products[products["Customer ID"].notna()].groupby("StockCode")["Price"].nunique()
    assert (prices > 1).mean() > 0.1  # prices change
    first_seen = products.groupby("StockCode")["InvoiceDate"].min()
    assert (first_seen > "2024-07-01").mean() > 0.05  # and products are new
    customers = small.groupby("Customer ID")["InvoiceDate"].min()
    assert (customers > "2024-07-01").mean() > 0.05


def test_the_contract_takes_it_but_for_the_lines_that_no_contract_takes(settings: Settings) -> None:
    small = settings.model_copy(update={"sample": SMALL})
    source = resolve_source(small)
    assert source.name == "sample"
    assert source.last_day() == last_day(SMALL) == date(2025, 1, 20)
    staged = stage_transactions(small, source.first_day(), source.last_day(), run_id="run")
    assert 2 <= staged.counts["quarantined"] <= 12
    assert staged.counts["quarantined_negative_price"] >= 1
    assert staged.counts["quarantined_unreadable_time"] >= 1
    assert staged.counts["duplicates"] > 10
    publish_set(Lake(small.lake_path), staged)
    assert Lake(small.lake_path).table("transactions").days()[-1] == last_day(SMALL)


def test_later_days_never_change_earlier_ones(small: pd.DataFrame, tmp_path: Path) -> None:
    longer = generate(SMALL.model_copy(update={"extra_days": 60}), tmp_path)
    lines = pq.read_table(longer).to_pandas()
    assert len(lines) > len(small)
    pd.testing.assert_frame_equal(lines.iloc[: len(small)], small)


def test_the_truth_does_not_depend_on_later_days() -> None:
    longer = SMALL.model_copy(update={"extra_days": 200})
    as_of = date(2024, 10, 1)
    pd.testing.assert_frame_equal(true_probabilities(SMALL, as_of, HORIZON), true_probabilities(longer, as_of, HORIZON))


def test_a_longer_horizon_is_likelier_and_a_day_is_little() -> None:
    as_of = date(2024, 10, 1)
    one, four, many = (true_probabilities(SMALL, as_of, days)["probability"] for days in (1, 28, 120))
    assert (one <= four).all()
    assert (four <= many).all()
    assert one.mean() < four.mean() / 5
    assert many.max() <= 1


def test_seeds_make_shops(small: pd.DataFrame, tmp_path: Path) -> None:
    other = pq.read_table(generate(SMALL.model_copy(update={"seed": 1}), tmp_path)).to_pandas()
    assert not other["Description"].head(50).equals(small["Description"].head(50))


@pytest.mark.parametrize("name", ["shop.csv", "shop.csv.gz", "shop.parquet"])
def test_it_is_written_in_every_form(settings: Settings, small: pd.DataFrame, tmp_path: Path, name: str) -> None:
    rows = write_sample(SMALL, tmp_path / name)
    assert rows == (small["InvoiceDate"] < "2025-01-01").sum()
    source = resolve_source(settings, str(tmp_path / name))
    lines = sum(chunk.lines.num_rows for chunk in source.chunks(source.first_day(), source.last_day()))
    assert lines == rows
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == [name]


def test_an_unknown_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"shop\.docx is of no known kind"):
        write_sample(SMALL, tmp_path / "shop.docx")
    assert list(tmp_path.iterdir()) == []


def test_the_sample_of_the_settings_is_made_once(settings: Settings) -> None:
    small = settings.model_copy(update={"sample": SMALL})
    made = sample_file(small)
    before = made.stat().st_mtime_ns
    assert sample_file(small) == made
    assert made.stat().st_mtime_ns == before
    times = pq.read_table(made, columns=["InvoiceDate"])["InvoiceDate"]
    assert pc.max(times).as_py() < str(last_day(SMALL) + timedelta(days=1))
