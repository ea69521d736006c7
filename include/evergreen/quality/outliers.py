"""Shares of outliers among prices and quantities, by a robust score of their logarithms."""

from __future__ import annotations

from evergreen.quality.rows import Rows

NORMAL = 1.4826
"""Deviation of a normal distribution / its median absolute deviation."""


def outlier_share(rows: Rows, table: str, column: str, z: float) -> float | None:
    """Share of the non-null values of a column whose robust z-score is beyond `z`; None without values.

    The score is |x - median| / (1.4826 x median absolute deviation) of x = sign(value) ln(1 + |value|): prices and
    quantities are skewed, and a mean and deviation would be made by the very outliers that they should find (Iglewicz
    and Hoaglin, How to Detect and Handle Outliers, 1993). Where more than half of the values are equal, the mean
    absolute deviation x 1.2533 stands in.
    """
    value = f"sign({column}) * ln(1 + abs({column}))"
    (share,) = rows.row(
        f"""
        WITH logs AS (SELECT {value} AS x FROM "{table}" WHERE {column} IS NOT NULL),
        middle AS (SELECT median(x) AS m FROM logs),
        spread AS (
            SELECT m, {NORMAL} * median(abs(x - m)) AS robust, 1.2533 * avg(abs(x - m)) AS mean
            FROM logs, middle GROUP BY m
        )
        SELECT avg(CAST(abs(x - m) > {z} * CASE WHEN robust > 0 THEN robust ELSE mean END AS DOUBLE)) FROM logs, spread
        """
    )
    return None if share is None else float(share)
