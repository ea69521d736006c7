"""Scores of one model on one set of labelled pairs: what every metric, gate and report reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from evergreen.errors import EvaluationError

if TYPE_CHECKING:
    import pandas as pd

    Columns = pd.DataFrame | Mapping[str, Any]  # or arrays by name, such as columns read from a file one at a time


@dataclass(frozen=True)
class Scores:
    """Labels and probabilities of n pairs, row by row.

    `customer_ids` are the clusters of every bootstrap; `slices` holds a label a row for each slice dimension
    (`country`, `tenure`, `price_band`, `product_age`).
    """

    customer_ids: npt.NDArray[np.object_]
    product_ids: npt.NDArray[np.object_]
    labels: npt.NDArray[np.int8]
    probabilities: npt.NDArray[np.float64]
    slices: dict[str, npt.NDArray[np.object_]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Scores:
        """The pairs of a mask or of row numbers."""
        return Scores(
            self.customer_ids[rows],
            self.product_ids[rows],
            self.labels[rows],
            self.probabilities[rows],
            {name: values[rows] for name, values in self.slices.items()},
        )

    def check(self) -> None:
        """Refuses scores that no metric can be read from.

        Raises:
            EvaluationError: no pairs, a label other than 0 and 1, or a probability that is NaN or outside 0..1.
        """
        if not len(self):
            raise EvaluationError("there are no pairs to evaluate; expected at least one labelled pair")
        if not np.isin(self.labels, (0, 1)).all():
            raise EvaluationError(f"labels are {np.unique(self.labels)[:5].tolist()}, must be 0 or 1")
        bad = ~((self.probabilities >= 0) & (self.probabilities <= 1))
        if bad.any():
            example = self.probabilities[np.flatnonzero(bad)[0]]
            raise EvaluationError(f"{bad.sum():,} of {len(self):,} probabilities are not in 0..1, such as {example}")

    def check_same_pairs(self, other: Scores) -> None:
        """Refuses a comparison of two models on different pairs.

        Raises:
            EvaluationError: customers, products or labels differ, or stand in another order.
        """
        if len(self) != len(other):
            raise EvaluationError(f"{len(self):,} pairs cannot be compared with {len(other):,}: score the same holdout")
        for name in ("customer_ids", "product_ids", "labels"):
            differing = int(np.sum(getattr(self, name) != getattr(other, name)))
            if differing:
                raise EvaluationError(
                    f"{name} of {differing:,} of {len(self):,} pairs differ: score the same holdout in the same order"
                )

    def save(self, file: Path) -> Path:
        """Writes a Parquet file; slice columns are prefixed with `slice.`."""
        file.parent.mkdir(parents=True, exist_ok=True)
        columns = {
            "customer_id": self.customer_ids,
            "product_id": self.product_ids,
            "label": self.labels,
            "probability": self.probabilities,
        }
        pq.write_table(pa.table(columns | {f"slice.{name}": values for name, values in self.slices.items()}), file)
        return file

    @staticmethod
    def load(file: Path | str) -> Scores:
        """Reads what `save` wrote."""
        table = pq.read_table(file)
        slices = {
            name.removeprefix("slice."): table[name].to_numpy() for name in table.column_names if name[:6] == "slice."
        }
        return Scores(
            table["customer_id"].to_numpy(),
            table["product_id"].to_numpy(),
            table["label"].to_numpy(),
            table["probability"].to_numpy(),
            slices,
        )
