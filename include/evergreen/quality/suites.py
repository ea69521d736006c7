"""The declared expectations: what transactions, features and training sets must look like.

Each has a severity. `fail` stops the run before anything is published; `warn` is for facts of this kind of data (lines
without a customer, few positive labels). `settings.quality.severity` overrides one by its key, `table.check`.
"""

from __future__ import annotations

import difflib
from dataclasses import replace
from itertools import pairwise

from evergreen.errors import DataQualityError, SettingsError
from evergreen.lake.feature_columns import CUSTOMER_COLUMNS, PAIR_COLUMNS, PRODUCT_COLUMNS, WINDOWS, Column
from evergreen.lake.schemas import TABLES
from evergreen.quality.checks import Check, Severity, Suite, any_of, figure, given, none_where, on_columns, on_values
from evergreen.settings import Settings

WARN, FAIL = Severity.WARN, Severity.FAIL
TRAINING_TABLES = ("train", "inner", "holdout")
FACTOR_TABLES = ("customer_factors", "product_factors")
OUTLIER_COLUMNS = ("quantity", "unit_price")

_EPOCH_DAY = "date_diff('day', DATE '1970-01-01', event_date)"


def suite(name: str, settings: Settings) -> Suite:
    """A suite by name with the severities of the settings.

    Raises:
        DataQualityError: there is no such suite.
        SettingsError: `settings.quality.severity` names a check that no suite has.
    """
    makers = {"transactions": transactions, "features": features, "training_set": training_set}
    if name not in makers:
        raise DataQualityError(f"expectation suite {name!r} is unknown, must be one of: {', '.join(makers)}")
    _refuse_unknown_keys(settings, {check.key for maker in makers.values() for check in maker(settings).checks})
    made = makers[name](settings)
    override = settings.quality.severity
    checks = tuple(replace(check, severity=override.get(check.key, check.severity)) for check in made.checks)
    return replace(made, checks=checks)


def _refuse_unknown_keys(settings: Settings, known: set[str]) -> None:
    for key in settings.quality.severity:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise SettingsError(f"settings.quality.severity.{key}: no check is called {key}; the nearest one is {near}")


def transactions(settings: Settings) -> Suite:
    """Purchase lines by the canonical contract, after quarantine."""
    quality, ingest = settings.quality, settings.ingest
    table = "transactions"
    purchase = "customer_id IS NOT NULL AND is_product AND quantity > 0 AND unit_price > 0 AND NOT is_cancellation"
    columns = [column for column in TABLES[table].schema.names if column != "event_date"]
    missing = "CAST(count(*) FILTER (customer_id IS NULL) AS DOUBLE) / nullif(count(*), 0)"
    checks = [
        *_shape(table, settings, key=("invoice_id", "product_id", "event_time")),
        figure(
            table,
            "duplicate_lines",
            f"count(*) - count(DISTINCT hash({', '.join(columns)}))",
            "exact duplicates are counted and dropped at ingest",
            high=0,
        ),
        none_where(table, "blank_keys", "trim(invoice_id) = '' OR trim(product_id) = ''", "a blank key is no key"),
        none_where(table, "other_day", "CAST(event_time AS DATE) <> event_date", "a line belongs to its own day"),
        none_where(table, "return_flag", "is_return IS DISTINCT FROM (quantity < 0)", "returns are flagged"),
        none_where(table, "purchase_flag", f"is_purchase IS DISTINCT FROM ({purchase})", "bought has one meaning"),
        none_where(
            table,
            "amount",
            "abs(amount_minor - quantity * unit_price * 100) > 0.51",
            "the amount is quantity x price in minor units",
        ),
        none_where(
            table,
            "absurd_price",
            f"unit_price < 0 OR unit_price > {ingest.max_unit_price} OR isnan(unit_price)",
            "absurd prices are quarantined",
        ),
        none_where(
            table, "absurd_quantity", f"abs(quantity) > {ingest.max_quantity}", "absurd quantities are quarantined"
        ),
        figure(
            table,
            "missing_customers",
            missing,
            "a share of lines has no customer; they feed product features only",
            high=quality.max_missing_customer_share,
            severity=WARN,
        ),
        given(
            table,
            "lost_customers",
            "share of lines without a customer on the worst day: nearly all means that the column was lost",
            high=quality.max_missing_customer_share_of_day,
        ),
        figure(
            table,
            "cancellations",
            "CAST(count(*) FILTER (is_cancellation) AS DOUBLE) / nullif(count(*), 0)",
            "share of cancelled lines",
            high=quality.max_cancellation_share,
            severity=WARN,
        ),
        given(table, "impossible_volume", "days whose number of lines cannot be right", high=0),
        given(table, "unusual_history", "the same in days of loaded history", high=0, severity=WARN),
        given(
            table,
            "quarantined",
            "share of the lines of these days that was rejected",
            high=quality.max_quarantine_share,
            severity=WARN,
        ),
        *(
            given(
                table,
                f"outliers_{column}",
                f"share of outliers among the values of {column}",
                high=quality.max_outlier_share,
                severity=WARN,
            )
            for column in OUTLIER_COLUMNS
        ),
        on_values(
            table,
            "description_present",
            "ExpectColumnValuesToNotBeNull",
            "category and text features come from it",
            severity=WARN,
            column="description",
            mostly=1 - quality.max_missing_description_share,
        ),
        on_values(
            table,
            "country_present",
            "ExpectColumnValuesToNotBeNull",
            "slices are made by country",
            severity=WARN,
            column="country",
        ),
        on_values(
            table,
            "product_code",
            "ExpectColumnValuesToMatchRegex",
            "codes are trimmed and upper case",
            column="product_id",
            regex=r"^[^\sa-z](?:[^a-z]*[^\sa-z])?$",
        ),
        on_values(
            table,
            "price_in_range",
            "ExpectColumnValuesToBeBetween",
            "a price is a number of the contract's range",
            column="unit_price",
            min_value=0,
            max_value=ingest.max_unit_price,
        ),
    ]
    return Suite(table, (table,), tuple(checks), {table: "event_date"})


def features(settings: Settings) -> Suite:
    """Tiles, pair state and snapshots."""
    checks: list[Check] = []
    for table in ("daily_customer", "daily_product"):
        checks += _shape(table, settings, key=TABLES[table].key, unique_by=(*TABLES[table].key, "event_date"))
        checks += [
            _not_negative(
                table, ("lines", "pair_days", "new_pairs", "repeats", "repeats_28d", "cancellations", "returns")
            ),
            none_where(
                table,
                "repeats",
                "repeats + new_pairs <> pair_days OR repeats_28d > repeats",
                "a product is bought for the first time or again",
            ),
        ]
    stored = {
        "pair_features": PAIR_COLUMNS,
        "customer_features": CUSTOMER_COLUMNS,
        "product_features": PRODUCT_COLUMNS,
    }
    for table, columns in stored.items():
        checks += _shape(table, settings, key=TABLES[table].key, unique_by=(*TABLES[table].key, "event_date"))
        checks += [
            _stamp(table),
            _not_negative(table, tuple(column.name for column in columns if _is_count(column))),
            *_windows(table, columns),
            *_days(table, columns),
            *_on_snapshot_values(table, columns),
        ]
    checks += [
        none_where(
            "pair_features",
            "lists",
            "len(pair_purchase_days) <> len(pair_purchase_quantities)",
            "each purchase day has its quantity",
        ),
        none_where(
            "pair_features",
            "newest_day",
            "pair_purchase_days[-1] IS DISTINCT FROM pair_last_purchase_day "
            f"OR pair_last_purchase_day IS DISTINCT FROM {_EPOCH_DAY}",
            "a pair's row stands on a day of purchase, its newest",
        ),
        none_where(
            "pair_features",
            "prices",
            "pair_min_price_minor > pair_last_price_minor OR pair_last_price_minor > pair_max_price_minor",
            "the newest price lies between lowest and highest",
        ),
    ]
    tables = ("daily_customer", "daily_product", *stored)
    if settings.features.factors.enabled:
        checks += [check for table in FACTOR_TABLES for check in _factors(table, settings)]
        tables += FACTOR_TABLES
    return Suite("features", tables, tuple(checks), dict.fromkeys(tables, "event_date"))


def _factors(table: str, settings: Settings) -> list[Check]:
    rank = settings.features.factors.rank
    return [
        *_shape(table, settings, key=TABLES[table].key, unique_by=(*TABLES[table].key, "event_date")),
        _stamp(table),
        none_where(
            table,
            "vectors",
            f"len({table}) IS DISTINCT FROM {rank} OR list_bool_and([value IS NOT NULL for value in {table}]) = false",
            f"a vector has rank ({rank}) numbers",
        ),
    ]


def training_set(settings: Settings) -> Suite:
    """Point-in-time features with mature labels: training and inner customers, and the holdout."""
    quality, horizon = settings.quality, settings.training.horizon_days
    checks: list[Check] = []
    for table in TRAINING_TABLES:
        checks += [
            *_rows_and_keys(
                table,
                settings,
                key=("as_of", "customer_id", "product_id"),
                unique_by=("as_of", "customer_id", "product_id"),
            ),
            on_columns(table, "keys and label are there", ["as_of", "customer_id", "product_id", "label"], exact=False),
            none_where(table, "label_values", "label IS NULL OR label NOT IN (0, 1)", "a label is 0 or 1"),
            figure(
                table,
                "label_classes",
                "count(DISTINCT label)",
                "a single class teaches nothing and cannot be scored",
                low=2,
                high=2,
            ),
            figure(
                table,
                "positive_share",
                "avg(label)",
                "few pairs are bought again within the window: metrics that suppose balance mislead",
                low=quality.min_positive_share,
                high=1 - quality.min_positive_share,
                severity=WARN,
            ),
            given(table, "infinite_values", "features are numbers or missing", high=0),
            given(table, "empty_features", "features that are missing everywhere", high=0, severity=WARN),
            on_values(
                table,
                "label_in_set",
                "ExpectColumnValuesToBeInSet",
                "a label is 0 or 1",
                column="label",
                value_set=[0, 1],
            ),
        ]
    checks += [
        *(
            given(table, "same_columns", "columns that differ from those of `train`", high=0)
            for table in TRAINING_TABLES[1:]
        ),
        given(
            "holdout",
            "embargo_days",
            "days from the newest training as_of to the holdout's: label windows must not touch",
            low=horizon,
        ),
        given("inner", "customers_shared", "customers that stand in `train` too", high=0),
    ]
    return Suite("training_set", TRAINING_TABLES, tuple(checks), dict.fromkeys(TRAINING_TABLES, "as_of"))


def _shape(
    table: str, settings: Settings, *, key: tuple[str, ...], unique_by: tuple[str, ...] | None = None
) -> list[Check]:
    columns = on_columns(table, "all columns of the schema are there", TABLES[table].schema.names, exact=True)
    return [columns, *_rows_and_keys(table, settings, key=key, unique_by=unique_by)]


def _rows_and_keys(
    table: str, settings: Settings, *, key: tuple[str, ...], unique_by: tuple[str, ...] | None
) -> list[Check]:
    floor = settings.quality.min_rows.get(table, 1)
    checks = [
        given(table, "rows", "rows that the table will hold once this is published", low=floor),
        none_where(table, "null_keys", any_of([f"{column} IS NULL" for column in key]), "a key is complete"),
    ]
    if unique_by:
        distinct = f"count(*) - count(DISTINCT hash({', '.join(unique_by)}))"
        checks.append(figure(table, "duplicate_keys", distinct, "a key identifies one row", high=0))
    return checks


def _is_count(column: Column) -> bool:
    return column.kind == "int64" and column.default == 0.0


def _stamp(table: str) -> Check:
    return none_where(
        table,
        "stamp",
        "CAST(event_timestamp AS TIMESTAMP) <> CAST(event_date AS TIMESTAMP) + INTERVAL 1 DAY",
        "a day's row is true from the next day on: its own stamp would leak it",
    )


def _not_negative(table: str, columns: tuple[str, ...]) -> Check:
    # Amounts, quantities and lags may net returns; counts may not.
    counted = [name for name in columns if not any(part in name for part in ("amount", "quantity", "lag_"))]
    return none_where(table, "negative_counts", any_of([f"{name} < 0" for name in counted]), "counts begin at 0")


def _windows(table: str, columns: tuple[Column, ...]) -> list[Check]:
    names = {column.name for column in columns}
    stems = {name.removesuffix(f"_{WINDOWS[0]}d") for name in names if name.endswith(f"_{WINDOWS[0]}d")}
    counted = [
        stem for stem in sorted(stems) if not any(part in stem for part in ("amount", "quantity", "ages", "lag"))
    ]
    nested = [
        f"{stem}_{short}d > {stem}_{long}d"
        for stem in counted
        for short, long in pairwise(WINDOWS)
        if f"{stem}_{long}d" in names
    ]
    if not nested:
        return []
    return [none_where(table, "nested_windows", any_of(nested), "a longer window holds the shorter one")]


def _days(table: str, columns: tuple[Column, ...]) -> list[Check]:
    names = {column.name for column in columns}
    first = next(name for name in names if name.endswith(("_first_purchase_day", "_first_day")))
    last = first.replace("_first_", "_last_")
    checks = [
        none_where(
            table,
            "future",
            f"{last} IS NULL OR {last} > {_EPOCH_DAY}",
            "nothing is known before it happened",
        ),
        none_where(table, "first_day", f"{first} IS NULL OR {first} > {last}", "the first day is not after the last"),
    ]
    if days := next((column.name for column in columns if column.kind == "list<int64>" and "days" in column.name), ""):
        ascending = f"list_sort(list_distinct({days})) IS DISTINCT FROM {days} OR {days}[-1] > {_EPOCH_DAY}"
        checks.append(none_where(table, "day_list", ascending, "purchase days ascend and end by the row's day"))
    return checks


def _on_snapshot_values(table: str, columns: tuple[Column, ...]) -> list[Check]:
    return [
        on_values(
            table,
            f"{column.name}_present",
            "ExpectColumnValuesToNotBeNull",
            column.doc,
            column=column.name,
            severity=WARN if column.kind == "string" else FAIL,
        )
        for column in columns
        if column.kind == "string" or "_total_" in column.name
    ]
