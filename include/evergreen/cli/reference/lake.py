"""The pages of tables and features, from the schemas that the code itself uses."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from evergreen.cli.reference.markdown import code, page, table
from evergreen.features.registry import FEATURES, KNOWN
from evergreen.features.schema import (
    CUSTOMER_COLUMNS,
    CUSTOMER_FACTOR_COLUMNS,
    PAIR_COLUMNS,
    PRODUCT_COLUMNS,
    PRODUCT_FACTOR_COLUMNS,
    Column,
)
from evergreen.lake.schemas import TABLES, TableSpec

ABOUT_TABLES = """\
Delta tables under `home/lake`, partitioned by `event_date`. A day's rows are replaced as a whole, by one commit. The
digest of a day is made from its rows in the order of the key (of all columns where there is none), without the columns
that only say which run wrote them."""

ABOUT_FEATURES = """\
What models see, in this order: {count} features of a (customer, product) pair as of a day. The module
`evergreen.features.relative` computes each from the stored columns below and `as_of`; Feast gives them as the feature
service `buy_again_v1`. A figure that is not known is missing (not a number), a text that is not known is `unknown`."""

ABOUT_STORED = """\
What the feature tables hold and Feast's views serve: exact integers, texts and lists. A customer or product without a
row (nothing bought or sold in 365 days) reads as the last column says. "Missing" is not a number, or an empty list."""

GROUPS = {
    "pair": "Of the pair",
    "customer": "Of the customer",
    "product": "Of the product",
    "interaction": "Of the pair against its customer and its product",
    "calendar": "Of the day",
    "sequence": "The newest purchases one by one (read by `network` alone)",
    "text": "The product in words (read by `network` alone)",
    "factors": "Of matrix factorisation (if `settings.features.factors.enabled`, in the service `buy_again_v2`)",
}


def tables_page() -> str:
    """The page of the lake's tables."""
    return page("Tables", ABOUT_TABLES, *(part for spec in TABLES.values() for part in _of_table(spec)))


def features_page() -> str:
    """The page of model features and stored columns."""
    groups = [
        part
        for name, members in groupby(KNOWN, key=lambda feature: feature.group)
        for part in (
            f"## {GROUPS[name]}",
            table(("feature", "type", "meaning"), ((code(one.name), one.kind, one.doc) for one in members)),
        )
    ]
    return page(
        "Features",
        ABOUT_FEATURES.format(count=len(FEATURES)),
        *groups,
        "## Stored columns",
        ABOUT_STORED,
        *_stored("pair_features", "pair_state", PAIR_COLUMNS),
        *_stored("customer_features", "customer_state", CUSTOMER_COLUMNS),
        *_stored("product_features", "product_state", PRODUCT_COLUMNS),
        *_stored("customer_factors", "customer_factors_state", CUSTOMER_FACTOR_COLUMNS),
        *_stored("product_factors", "product_factors_state", PRODUCT_FACTOR_COLUMNS),
    )


def _of_table(spec: TableSpec) -> Iterator[str]:
    yield f"## {spec.name}"
    yield spec.doc
    key = ", ".join(code(name) for name in spec.key) if spec.key else "none: only the whole row identifies itself"
    yield f"Key within a day: {key}."
    if spec.provenance:
        yield f"Not in the digest: {', '.join(code(name) for name in spec.provenance)}."
    yield table(
        ("column", "type", "meaning"),
        ((code(field.name), str(field.type), (field.metadata or {})[b"doc"].decode()) for field in spec.schema),
    )


def _stored(name: str, view: str, columns: tuple[Column, ...]) -> Iterator[str]:
    yield f"### {name}"
    yield f"Feast's view `{view}`."
    yield table(
        ("column", "type", "meaning", "without a row"),
        ((code(column.name), column.kind, column.doc, _default(column)) for column in columns),
    )


def _default(column: Column) -> str:
    if column.default is None:
        return "missing"
    return code(column.default) if isinstance(column.default, str) else f"{column.default:g}"
