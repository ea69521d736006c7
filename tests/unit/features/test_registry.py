"""Names of columns and features."""

from __future__ import annotations

from evergreen.features.registry import CATEGORICAL, FEATURES, NAMES, RAW, SEQUENCES
from evergreen.features.state import COLUMNS
from evergreen.lake.feature_columns import CUSTOMER_COLUMNS, PAIR_COLUMNS, PRODUCT_COLUMNS
from evergreen.lake.schemas import TABLES


def test_columns_and_features_have_names_of_their_own() -> None:
    assert len(COLUMNS) == len(PAIR_COLUMNS) + len(CUSTOMER_COLUMNS) + len(PRODUCT_COLUMNS)
    assert len(set(NAMES)) == len(FEATURES)
    assert not set(NAMES) & set(COLUMNS)
    assert set(CATEGORICAL) | {"description"} == {feature.name for feature in FEATURES if feature.kind == "string"}
    assert {name for steps in SEQUENCES.values() for step in steps for name in step} | {"description"} == set(RAW)


def test_names_that_the_field_uses_are_there() -> None:
    wanted = {
        "total_purchases",
        "avg_purchase_value",
        "days_since_last_purchase",
        "preferred_category",
        "price_tier",
        "user_segment",
        "purchase_frequency_tier",
    }
    assert wanted <= set(NAMES)


def test_tables_store_these_columns() -> None:
    for name, columns in (
        ("pair_features", PAIR_COLUMNS),
        ("customer_features", CUSTOMER_COLUMNS),
        ("product_features", PRODUCT_COLUMNS),
    ):
        spec = TABLES[name]
        stored = spec.schema.names
        assert stored == [*spec.key, "event_timestamp", *(column.name for column in columns), "event_date"]
