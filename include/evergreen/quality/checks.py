"""A check: one Great Expectations expectation on one table, and what happens where it does not hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from evergreen.settings.quality import Severity

__all__ = ["Check", "Scope", "Severity", "Suite", "figure", "given", "none_where", "on_columns", "on_values"]


class Scope(StrEnum):
    """What an expectation is run on."""

    FIGURES = "figures"  # one row of exact figures over all rows of the table
    VALUES = "values"  # the rows themselves, or a sample of them
    COLUMNS = "columns"  # the table without rows


@dataclass(frozen=True)
class Check:
    """One declared expectation. Its key (`table.name`) is what settings and messages call it."""

    table: str
    name: str
    expectation: str  # class in great_expectations.expectations
    arguments: Mapping[str, Any]
    severity: Severity
    why: str
    scope: Scope
    sql: str = ""  # of the figure, an aggregate over the table; empty: the runner is given the figure
    rule: bool = False  # the figure counts rows that break a rule: it enters the consistency score

    @property
    def key(self) -> str:
        """`table.name`."""
        return f"{self.table}.{self.name}"

    @property
    def limit(self) -> str:
        """What is allowed, in words."""
        low, high = self.arguments.get("min_value"), self.arguments.get("max_value")
        if low is not None and low == high:
            return f"exactly {_number(low)}"
        if low is not None and high is not None:
            return f"{_number(low)} to {_number(high)}"
        if low is not None:
            return f"at least {_number(low)}"
        if high is not None:
            return f"at most {_number(high)}"
        if "column_set" in self.arguments:
            return (
                f"{'exactly' if self.arguments['exact_match'] else 'at least'} the {len(self.arguments['column_set'])}"
            )
        if "value_set" in self.arguments:
            return f"one of {', '.join(map(str, self.arguments['value_set']))}"
        if "regex" in self.arguments:
            return f"all like {self.arguments['regex']}"
        return f"{self.arguments.get('mostly', 1):.4g} of them filled"


@dataclass(frozen=True)
class Suite:
    """All checks of one kind of data."""

    name: str
    tables: tuple[str, ...]
    checks: tuple[Check, ...]
    keys: Mapping[str, str] = field(default_factory=dict)  # table: column that its sample is stratified by

    def __post_init__(self) -> None:
        """Refuses two checks of one key: one of them could vanish unnoticed."""
        keys = [check.key for check in self.checks]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(f"suite {self.name} declares twice: {', '.join(twice)}")


def figure(
    table: str,
    name: str,
    sql: str,
    why: str,
    *,
    low: float | None = None,
    high: float | None = None,
    severity: Severity = Severity.FAIL,
) -> Check:
    """An aggregate over all rows of a table must lie between `low` and `high`."""
    arguments = {"column": name, **_bounds(low, high)}
    return Check(table, name, "ExpectColumnValuesToBeBetween", arguments, severity, why, Scope.FIGURES, sql)


def given(
    table: str,
    name: str,
    why: str,
    *,
    low: float | None = None,
    high: float | None = None,
    severity: Severity = Severity.FAIL,
) -> Check:
    """A figure that the runner works out from more than the table itself must lie between `low` and `high`."""
    return figure(table, name, "", why, low=low, high=high, severity=severity)


def none_where(table: str, name: str, condition: str, why: str, *, severity: Severity = Severity.FAIL) -> Check:
    """No row of a table may meet an SQL condition."""
    arguments = {"column": name, "min_value": 0, "max_value": 0}
    sql = f"count(*) FILTER ({condition})"
    return Check(table, name, "ExpectColumnValuesToBeBetween", arguments, severity, why, Scope.FIGURES, sql, rule=True)


def on_values(
    table: str, name: str, expectation: str, why: str, *, severity: Severity = Severity.FAIL, **arguments: Any
) -> Check:
    """An expectation on the rows of a table."""
    return Check(table, name, expectation, arguments, severity, why, Scope.VALUES)


def on_columns(table: str, why: str, columns: Sequence[str], *, exact: bool) -> Check:
    """A table has these columns, and no others if `exact`."""
    arguments = {"column_set": list(columns), "exact_match": exact}
    return Check(table, "columns", "ExpectTableColumnsToMatchSet", arguments, Severity.FAIL, why, Scope.COLUMNS)


def any_of(conditions: Sequence[str]) -> str:
    """SQL: one of the conditions holds."""
    return " OR ".join(f"({condition})" for condition in conditions) or "false"


def _bounds(low: float | None, high: float | None) -> dict[str, float]:
    return {name: value for name, value in (("min_value", low), ("max_value", high)) if value is not None}


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
