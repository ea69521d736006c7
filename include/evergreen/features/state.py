"""Stored columns as NumPy arrays, however they come: from Arrow, pandas, Feast's lists or one request.

NumPy alone is imported: serving and Spark's workers load this too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from evergreen.lake.feature_columns import CUSTOMER_COLUMNS, PAIR_COLUMNS, PRODUCT_COLUMNS, UNKNOWN

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Texts = npt.NDArray[np.object_]

T = TypeVar("T")

COLUMNS = {column.name: column for column in (*PAIR_COLUMNS, *CUSTOMER_COLUMNS, *PRODUCT_COLUMNS)}


@dataclass(frozen=True)
class Ragged:
    """Lists of n rows, end to end."""

    values: Ints  # of all rows
    lengths: Ints  # n

    @cached_property
    def rows(self) -> Ints:
        """Row of each of `values`."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def only(self, kept: npt.NDArray[np.bool_]) -> Ragged:
        """The lists without the values that are not kept."""
        return Ragged(self.values[kept], np.bincount(self.rows[kept], minlength=len(self.lengths)).astype(np.int64))

    def newest(self, number: int) -> Floats:
        """The value of each row that `number` others come after; NaN where the row has no so many."""
        found = np.full(len(self.lengths), np.nan)
        there = self.lengths > number
        found[there] = self.values[np.cumsum(self.lengths)[there] - 1 - number]
        return found

    def spread(self, by_row: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A value of each row, for each of `values`."""
        return np.repeat(by_row, self.lengths)

    def sum(self, by_value: npt.NDArray[Any]) -> Floats:
        """Sum in each row of something that each of `values` has.

        `bincount` adds one after the other: a row's sum does not depend on how many rows there are.
        """
        return np.bincount(self.rows, weights=by_value, minlength=len(self.lengths)).astype(np.float64)


class State:
    """Stored columns of n entities or pairs, missing values replaced by the defaults of the schema."""

    def __init__(self, columns: Mapping[str, Any]) -> None:
        """Takes columns by name: Arrow arrays, NumPy arrays, sequences; lists as sequences of sequences or None."""
        self._columns = columns
        self._converted: dict[str, Any] = {}

    @cached_property
    def rows(self) -> int:
        """Number of rows."""
        return next((len(column) for column in self._columns.values()), 0)

    def numbers(self, name: str) -> Floats:
        """A column of integers as float64; what is missing reads as the default, NaN where there is none."""
        return self._get(name, _numbers)

    def texts(self, name: str) -> Texts:
        """A column of strings; what is missing reads as `unknown`."""
        return self._get(name, _texts)

    def lists(self, name: str) -> Ragged:
        """A column of lists; what is missing reads as an empty list."""
        return self._get(name, _lists)

    def _get(self, name: str, convert: Callable[[str, Any], T]) -> T:
        if name not in self._converted:
            if name not in self._columns:
                raise KeyError(f"column {name!r} is missing, got: {', '.join(sorted(self._columns))}")
            values = self._columns[name]
            # Arrow's chunks become one array; nothing of Arrow is imported for that.
            values = values.combine_chunks() if hasattr(values, "combine_chunks") else values
            self._converted[name] = convert(name, values)
        return cast(T, self._converted[name])


def state(columns: Mapping[str, Any] | State) -> State:
    """Stored columns, ready for `evergreen.features.relative`."""
    return columns if isinstance(columns, State) else State(columns)


def _numbers(name: str, values: Any) -> Floats:
    default = COLUMNS[name].default
    array = np.asarray(values.to_numpy(zero_copy_only=False) if _is_arrow(values) else values)
    if array.dtype == object:
        array = np.array([np.nan if value is None else value for value in array.tolist()], dtype=np.float64)
    floats = array.astype(np.float64)
    return floats if default is None else np.where(np.isnan(floats), float(default), floats)


def _texts(name: str, values: Any) -> Texts:
    plain = values.to_pylist() if _is_arrow(values) else np.asarray(values, dtype=object).tolist()
    texts = np.empty(len(plain), dtype=object)
    texts[:] = [value if isinstance(value, str) else UNKNOWN for value in plain]
    return texts


def _lists(name: str, values: Any) -> Ragged:
    if _is_arrow(values):
        lengths = np.asarray(values.value_lengths().fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64)
        return Ragged(np.asarray(values.flatten().to_numpy(zero_copy_only=False), dtype=np.int64), lengths)
    plain = [() if value is None or isinstance(value, float) else value for value in values]
    lengths = np.fromiter((len(value) for value in plain), dtype=np.int64, count=len(plain))
    present = [np.asarray(value, dtype=np.int64) for value in plain if len(value)]
    return Ragged(np.concatenate(present) if present else np.empty(0, dtype=np.int64), lengths)


def _is_arrow(values: Any) -> bool:
    return hasattr(values, "to_pylist")
