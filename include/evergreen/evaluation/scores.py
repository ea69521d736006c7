"""Scores of one model on one set of labelled pairs: what every metric, gate and report reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq


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
