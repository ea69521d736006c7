"""The daily data profile: what each column holds, and how complete and consistent the rows are."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from pathlib import Path
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


def write_profile(document: Mapping[str, Any], folder: Path) -> Path:
    """Writes `profile.json` and `profile.html`, and gives the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "profile.json").write_text(json.dumps(document, indent=1, default=str, allow_nan=False))
    page = folder / "profile.html"
    page.write_text(_page(document))
    return page


def _page(document: Mapping[str, Any]) -> str:
    tables = "".join(_table(name, table) for name, table in document["tables"].items())
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        f"<title>Profile of {html.escape(document['suite'])}</title>"
        "<style>body{font:14px system-ui,sans-serif;margin:2rem;color:#222;background:#fff}"
        "table{border-collapse:collapse;margin:0 0 2rem}"
        "td,th{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #ddd}"
        "td:first-child,th:first-child,td:nth-child(2),th:nth-child(2){text-align:left}.low{color:#b00020}</style>"
        f"<h1>Profile of {html.escape(document['suite'])}</h1>"
        f"<p>Completeness {document['completeness']:.2%}, consistency {document['consistency']:.2%}. "
        "Distinct counts and quantiles are approximate.</p>"
        f"{tables}</html>"
    )


def _table(name: str, table: Mapping[str, Any]) -> str:
    head = ("column", "type", "filled", "distinct", "min", *(f"{q:.0%}" for q in QUANTILES), "max", "mean")
    body = "".join(_column(column, figures) for column, figures in table["columns"].items())
    sampled = f", figures of a sample of {table['read_rows']:,}" if table["read_rows"] < table["rows"] else ""
    return (
        f"<h2>{html.escape(name)}: {table['rows']:,} rows{sampled}</h2><table><tr>"
        + "".join(f"<th>{title}</th>" for title in head)
        + f"</tr>{body}</table>"
    )


def _column(name: str, figures: Mapping[str, Any]) -> str:
    quantiles = figures.get("quantiles", {})
    cells = [
        name,
        figures["type"].lower(),
        f"{figures['filled_share']:.1%}",
        _shown(figures.get("distinct")),
        _shown(figures.get("min")),
        *(_shown(quantiles.get(str(q))) for q in QUANTILES),
        _shown(figures.get("max")),
        _shown(figures.get("mean")),
    ]
    mark = " class='low'" if figures["filled_share"] < 1 else ""
    return f"<tr{mark}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, int | str):
        return value
    if isinstance(value, float):
        return value if abs(value) != float("inf") else str(value)
    return str(value)
