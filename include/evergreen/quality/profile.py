"""The daily data profile: what each column holds, and how complete and consistent the rows are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evergreen.quality.rows import Rows

QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
OPTIONAL = frozenset({"extra"})
"""Columns that are empty by contract: they do not count as incomplete."""
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL")
_ORDERED = ("DATE", "TIMESTAMP")


def profile_table(rows: Rows, table: str, sample: str = "") -> dict[str, Any]:
    """Rows of a table, and of each column: type, share filled, distinct values (about), range and quantiles (about).

    Floats that are not a number count as missing.

    Args:
        rows: the tables under test.
        table: whose rows are counted.
        sample: what the columns' figures are read from, where it is not all of the table.
    """
    read = sample or table
    columns = rows.columns(read)
    asked: dict[str, str] = {}
    for name, kind in columns.items():
        column = f'"{name}"'
        value = f"CASE WHEN isnan({column}) THEN NULL ELSE {column} END" if kind in ("FLOAT", "DOUBLE") else column
        asked[f"{name} filled"] = f"count({value})"
        if kind.endswith("[]"):
            continue
        asked[f"{name} distinct"] = f"approx_count_distinct({value})"
        if kind.startswith((*_NUMBERS, *_ORDERED)):
            asked[f"{name} min"], asked[f"{name} max"] = f"min({value})", f"max({value})"
        if kind.startswith(_NUMBERS):
            asked[f"{name} mean"] = f"avg({value})"
            asked[f"{name} quantiles"] = f"approx_quantile({value}, {list(QUANTILES)})"
    parts = ", ".join(f'{sql} AS "{name}"' for name, sql in {"rows": "count(*)", **asked}.items())
    figures = dict(zip(["rows", *asked], rows.row(f'SELECT {parts} FROM "{read}"'), strict=True))
    count = int(figures["rows"])
    described: dict[str, Any] = {}
    for name, kind in columns.items():
        of_column = {key.removeprefix(f"{name} "): figures[key] for key in asked if key.rpartition(" ")[0] == name}
        filled = int(of_column.pop("filled"))
        quantiles = of_column.pop("quantiles", None)
        described[name] = {
            "type": kind,
            "filled_share": filled / count if count else 1.0,
            **{key: _plain(value) for key, value in of_column.items()},
            **({"quantiles": dict(zip(map(str, QUANTILES), map(_plain, quantiles), strict=True))} if quantiles else {}),
        }
    return {"rows": rows.count(table), "read_rows": count, "columns": described}


def completeness(tables: Mapping[str, Mapping[str, Any]]) -> float:
    """Share of cells that are filled, over all tables and columns; 1 where there are no rows."""
    cells = filled = 0.0
    for table in tables.values():
        for column in (column for name, column in table["columns"].items() if name not in OPTIONAL):
            cells += table["rows"]
            filled += table["rows"] * column["filled_share"]
    return filled / cells if cells else 1.0


def consistency(broken: Mapping[str, tuple[int, int]]) -> float:
    """Share of (row, rule) pairs that hold; 1 where there are no rows.

    Args:
        broken: by rule, (rows that break it, rows that it was asked of).
    """
    asked = sum(rows for _, rows in broken.values())
    return 1.0 - sum(count for count, _ in broken.values()) / asked if asked else 1.0


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, int | str):
        return value
    if isinstance(value, float):
        return value if abs(value) != float("inf") else str(value)
    return str(value)
