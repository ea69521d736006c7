"""Every expectation has a planted fault that fails it, and valid rows fail none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from evergreen.errors import DataQualityError, SettingsError
from evergreen.lake import Lake
from evergreen.quality.checks import Severity, Suite, figure
from evergreen.quality.given import work_out
from evergreen.quality.rows import Rows, contents
from evergreen.quality.runner import QualityReport
from evergreen.quality.suites import suite
from evergreen.settings import Settings, load_settings
from tests.unit.quality.valid_rows import DAY, epoch, feature_frames, lines, training_frames

Outcome = Callable[[str, Mapping[str, pd.DataFrame]], QualityReport]
VALID: dict[str, Callable[[], dict[str, pd.DataFrame]]] = {
    "transactions": lambda: {"transactions": lines()},
    "features": feature_frames,
    "training_set": training_frames,
}


@pytest.mark.parametrize("name", VALID)
def test_valid_rows_fail_nothing(outcome: Outcome, name: str) -> None:
    report = outcome(name, VALID[name]())
    assert [result.message for result in report.failed] == []
    report.raise_if_failed()


def at(row: int, **values: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Plants values in one row."""

    def plant(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.copy()
        for name, value in values.items():
            if not isinstance(value, int | float):
                frame[name] = frame[name].astype(object)
            frame.at[row, name] = value
        return frame

    return plant


def doubled(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame, frame.iloc[[0]]], ignore_index=True)


def in_all(**values: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda frame: frame.assign(**values)


# Check: what fails it. Faults of one table fit together, so that one run can meet all of them.
FAULTS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "transactions.null_keys": at(1, product_id=None),
    "transactions.blank_keys": at(2, invoice_id=" "),
    "transactions.duplicate_lines": doubled,
    "transactions.other_day": at(3, event_time=pd.Timestamp(DAY, tz="UTC") + timedelta(days=1)),
    "transactions.return_flag": at(4, quantity=-1),
    "transactions.purchase_flag": at(5, is_cancellation=True),
    "transactions.amount": at(6, amount_minor=1),
    "transactions.absurd_price": at(7, unit_price=1e9),
    "transactions.absurd_quantity": at(8, quantity=10**9),
    "transactions.missing_customers": lambda frame: frame.assign(
        customer_id=frame.customer_id.where(frame.index % 2 == 0, None)
    ),
    "transactions.lost_customers": in_all(customer_id=None),
    "transactions.cancellations": in_all(is_cancellation=True),
    "transactions.outliers_quantity": lambda frame: frame.assign(
        quantity=frame.quantity.where(frame.index % 20 != 0, 900_000)
    ),
    "transactions.outliers_unit_price": lambda frame: frame.assign(
        unit_price=frame.unit_price.where(frame.index % 20 != 1, 90_000.0)
    ),
    "transactions.description_present": in_all(description=None),
    "transactions.country_present": at(9, country=None),
    "transactions.product_code": at(10, product_id="p 1"),
    "transactions.price_in_range": at(11, unit_price=-1.0),
    **{
        f"{table}.{name}": fault
        for table in ("daily_customer", "daily_product")
        for name, fault in {
            "null_keys": lambda frame: at(0, **{frame.columns[0]: None})(frame),
            "duplicate_keys": doubled,
            "negative_counts": at(1, returns=-1),
            "repeats": at(2, new_pairs=7),
        }.items()
    },
    **{
        f"{table}.{name}": fault
        for table in ("pair_features", "customer_features", "product_features")
        for name, fault in {
            "null_keys": lambda frame: at(0, **{frame.columns[0]: None})(frame),
            "duplicate_keys": doubled,
            "stamp": at(1, event_timestamp=pd.Timestamp(DAY, tz="UTC")),
        }.items()
    },
    "pair_features.negative_counts": at(2, pair_total_lines=-1),
    "pair_features.future": at(3, pair_last_purchase_day=epoch(DAY) + 1),
    "pair_features.first_day": at(4, pair_first_purchase_day=epoch(DAY) + 1),
    "pair_features.day_list": lambda frame: frame.assign(
        pair_purchase_days=[[days[1], days[0]] for days in frame.pair_purchase_days]
    ),
    "pair_features.lists": lambda frame: frame.assign(
        pair_purchase_quantities=[[1]] * len(frame),
    ),
    "pair_features.newest_day": at(1, pair_last_purchase_day=epoch(DAY) - 1),
    "pair_features.prices": at(2, pair_min_price_minor=9),
    "pair_features.pair_total_purchases_present": at(0, pair_total_purchases=np.nan),
    "pair_features.pair_total_lines_present": at(0, pair_total_lines=np.nan),
    "pair_features.pair_total_quantity_present": at(0, pair_total_quantity=np.nan),
    "pair_features.pair_total_amount_minor_present": at(0, pair_total_amount_minor=np.nan),
    "customer_features.negative_counts": at(2, customer_returns_365d=-1),
    "customer_features.nested_windows": at(3, customer_lines_28d=9),
    "customer_features.future": at(1, customer_last_purchase_day=epoch(DAY) + 1),
    "customer_features.first_day": at(2, customer_first_purchase_day=epoch(DAY) + 1),
    "customer_features.day_list": lambda frame: frame.assign(customer_purchase_days=[[epoch(DAY) + 1]] * len(frame)),
    "product_features.negative_counts": at(2, product_returns_365d=-1),
    "product_features.nested_windows": at(3, product_days_90d=9),
    "product_features.future": at(1, product_last_day=epoch(DAY) + 1),
    "product_features.first_day": at(2, product_first_day=epoch(DAY) + 1),
    **{
        f"{table}.{name}": fault
        for table in ("train", "inner", "holdout")
        for name, fault in {
            "rows": lambda frame: frame.head(9),
            "null_keys": at(0, product_id=None),
            "duplicate_keys": doubled,
            "label_values": at(1, label=2),
            "label_classes": in_all(label=1),
            "positive_share": in_all(label=0),
            "infinite_values": at(2, pair_purchases=np.inf),
            "empty_features": in_all(another=np.nan),
            "label_in_set": at(1, label=2),
        }.items()
    },
    "inner.same_columns": in_all(surplus="x"),
    "holdout.same_columns": in_all(surplus="x"),
    "inner.customers_shared": at(3, customer_id="T3"),
    "holdout.embargo_days": lambda frame: frame.assign(as_of=frame.as_of - timedelta(days=1)),
}
for _suite in ("customer_features", "product_features"):
    for _name in [name for name in feature_frames()[_suite].columns if "_total_" in name]:
        FAULTS[f"{_suite}.{_name}_present"] = at(0, **{_name: np.nan})
for _table, _name in (
    ("customer_features", "customer_country"),
    ("customer_features", "customer_preferred_category"),
    ("product_features", "product_description"),
    ("product_features", "product_category"),
):
    FAULTS[f"{_table}.{_name}_present"] = at(0, **{_name: None})

# Faults that would hide another one of their table: each is planted in a run of its own, or elsewhere.
ALONE = {
    "transactions.missing_customers", "transactions.lost_customers", "transactions.cancellations",
    "transactions.outliers_quantity", "transactions.outliers_unit_price",
    *(f"{table}.{name}" for table in VALID["training_set"]() for name in ("rows", "label_classes", "positive_share")),
}  # fmt: skip
IN_TEST_RUNNER = {
    "transactions.rows", "transactions.impossible_volume", "transactions.unusual_history", "transactions.quarantined",
    *(f"{table}.columns" for table in (*VALID["transactions"](), *VALID["features"](), *VALID["training_set"]())),
    *(f"{table}.rows" for table in feature_frames()),
}  # fmt: skip


def broken(keys: set[str], frames: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The frames with the faults of some checks planted; those that move whole rows come last."""
    for key in sorted(keys, key=lambda key: (FAULTS[key] is doubled, key)):
        table = key.split(".")[0]
        if table in frames:
            frames[table] = FAULTS[key](frames[table])
    return frames


def test_every_check_has_a_fault(settings: Settings) -> None:
    declared = {check.key for name in VALID for check in suite(name, settings).checks}
    assert declared == set(FAULTS) | IN_TEST_RUNNER, "plant a fault for a new check"


@pytest.mark.parametrize("name", VALID)
def test_each_planted_fault_is_noticed(outcome: Outcome, name: str) -> None:
    frames = VALID[name]()
    planted = {key for key in FAULTS if key.split(".")[0] in frames and key not in ALONE}
    report = outcome(name, broken(planted, frames))
    noticed = {result.check.key for result in (*report.failed, *report.warned)}
    assert planted - noticed == set()
    assert report.consistency < 1


FIGURES = sorted(key for key in FAULTS if not key.endswith(("_present", "_in_set", "product_code", "price_in_range")))


@pytest.mark.parametrize("key", FIGURES)
def test_a_fault_moves_its_figure_out_of_its_limits(
    write: Callable[[Mapping[str, pd.DataFrame]], dict[str, list[str]]], small: Settings, key: str
) -> None:
    """One fault alone, seen in its own figure; the control is the same figure of valid rows, which is within."""
    table, name = key.split(".")
    suite_name = next(name for name, frames in VALID.items() if table in frames())
    check = next(check for check in suite(suite_name, small).checks if check.key == key)
    within = []
    for frames in (VALID[suite_name](), broken({key}, VALID[suite_name]())):
        found = contents(suite(suite_name, small), write(frames), Lake(small.lake_path))
        rows = Rows(found)
        made = work_out(suite_name, rows, found, Lake(small.lake_path), small, accept_volume=False)
        value = ({**rows.figures(table, [check]), **made.figures[table]})[name]
        rows.close()
        low, high = check.arguments.get("min_value", -np.inf), check.arguments.get("max_value", np.inf)
        within.append(bool(low <= value <= high))
    assert within == [True, False]


def test_settings_override_a_severity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN__QUALITY__SEVERITY", "{transactions.missing_customers: fail}")
    checks = {check.key: check for check in suite("transactions", load_settings("local")).checks}
    assert checks["transactions.missing_customers"].severity is Severity.FAIL
    assert checks["transactions.cancellations"].severity is Severity.WARN


def test_an_override_of_no_check_is_refused_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN__QUALITY__SEVERITY", "{transactions.missing_customer: fail}")
    with pytest.raises(SettingsError, match=r"the nearest one is transactions\.missing_customers"):
        suite("transactions", load_settings("local"))


def test_an_unknown_suite_is_refused(settings: Settings) -> None:
    with pytest.raises(
        DataQualityError, match=r"'sales' is unknown, must be one of: transactions, features, training_set"
    ):
        suite("sales", settings)


def test_a_check_is_declared_once() -> None:
    check = figure("transactions", "rows", "count(*)", "why", low=1)
    with pytest.raises(ValueError, match=r"declares twice: transactions\.rows"):
        Suite("transactions", ("transactions",), (check, check))


def test_facts_of_this_data_warn_and_faults_fail(settings: Settings) -> None:
    severities = {check.key: check.severity for name in VALID for check in suite(name, settings).checks}
    warned = {key for key, severity in severities.items() if severity is Severity.WARN}
    assert {"transactions.missing_customers", "train.positive_share"} <= warned
    for key in ("rows", "columns", "null_keys", "duplicate_lines", "impossible_volume"):
        assert severities[f"transactions.{key}"] is Severity.FAIL
    assert severities["train.label_classes"] is Severity.FAIL
