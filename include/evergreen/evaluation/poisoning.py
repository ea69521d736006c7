"""Detectors of a tampered training set: labels that its own later features contradict, and customers who are copies.

What was bought between two dates shows twice in a training set: in the label of the earlier date and in the features of
later ones. Whoever flips labels must forge features of other rows too. Whoever copies a customer copies the days and
counts of the customer's pairs. What neither detector sees: purchases forged before ingest, with all that follows from
them. `benchmarks/poisoning.json` tells how much of what was planted is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from evergreen.settings.checks import PoisoningSettings
from evergreen.training.dataset import HOLDOUT, INNER, TRAIN, TrainingSet

if TYPE_CHECKING:
    import pandas as pd

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

FORMAT = "evergreen.poisoning/1"
KEYS = ("as_of", "customer_id", "product_id", "label")
HISTORY = ("pair_recency_days", "pair_purchases", "pair_gap_last_days", "pair_tenure_days")
NEVER = -1_000_000  # a day on which nothing was bought


def poisoning(training_set: TrainingSet, settings: PoisoningSettings) -> dict[str, Any]:
    """Runs both detectors on a training set: training and inner rows are judged, the holdout's features bear witness.

    Returns:
        JSON: `labels` (`rows`, `checked_share`, `contradicted_share` of the checked ones) and `twins` (`customers`,
        `twins`, `share`).
    """
    rows = read_rows(training_set)
    horizon = int(training_set.manifest["content"]["horizon_days"])
    return {"format": FORMAT, **judge_rows(rows, horizon, training_set.holdout, settings)}


def judge_rows(rows: pd.DataFrame, horizon: int, holdout: date, settings: PoisoningSettings) -> dict[str, Any]:
    """`poisoning` of rows that were read before: those of the holdout are judged by nobody."""
    checked, contradicted = label_contradictions(rows, horizon)
    own = (rows["as_of"] != day_number(holdout)).to_numpy()
    certain = int((checked & own).sum())
    judged = rows[own & (rows["as_of"] == rows.loc[own, "as_of"].max())]
    twins, customers = copied_customers(judged, settings)
    return {
        "labels": {
            "rows": int(own.sum()),
            "checked_share": certain / max(1, int(own.sum())),
            "contradicted_share": int((contradicted & own).sum()) / max(1, certain),
        },
        "twins": {"customers": customers, "twins": len(twins), "share": len(twins) / max(1, customers)},
    }


def read_rows(training_set: TrainingSet) -> pd.DataFrame:
    """Keys, label and purchase history of all rows: `as_of` in epoch days; NaN for what the features do not tell."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    names = {name for name, _ in training_set.features}
    columns = [*KEYS, *(name for name in HISTORY if name in names)]
    parts = [pq.read_table(training_set.file(name), columns=columns) for name in (TRAIN, INNER, HOLDOUT)]
    table = pa.concat_tables(parts, promote_options="permissive")
    made: dict[str, Any] = {}
    for key in ("customer_id", "product_id"):
        made[key] = pc.dictionary_encode(table[key].cast(pa.string())).combine_chunks().indices.to_numpy()
    made["as_of"] = table["as_of"].cast(pa.date32()).cast(pa.int32()).to_numpy().astype(np.int64)
    made["label"] = table["label"].to_numpy().astype(np.int8)
    for name in HISTORY:
        made[name] = table[name].to_numpy() if name in table.column_names else np.full(table.num_rows, np.nan)
    return pd.DataFrame(made)


def day_number(day: date) -> int:
    """Epoch day."""
    return (day - date(1970, 1, 1)).days


@dataclass(frozen=True)
class _Pairs:
    """Histories as of each date, one row a pair: what was bought last, the time before, and how often in all."""

    as_ofs: Sequence[int]
    row: Ints  # (pairs, dates): number of the row in the frame, -1 where there is none
    last: Ints  # epoch day of the newest purchase before the date
    before: Ints  # epoch day of the one before that
    count: Ints

    @staticmethod
    def of(rows: pd.DataFrame) -> _Pairs:
        import pandas as pd

        as_ofs, date_of_row = np.unique(rows["as_of"].to_numpy(), return_inverse=True)
        codes = rows["customer_id"].to_numpy(np.int64) * (int(rows["product_id"].max()) + 1) + rows["product_id"]
        pair_of_row, pairs = pd.factorize(codes)
        number = np.full((len(pairs), len(as_ofs)), -1, np.int64)
        number[pair_of_row, date_of_row] = np.arange(len(rows))
        last = rows["as_of"].to_numpy() - rows["pair_recency_days"].to_numpy(np.float64)
        gap = rows["pair_gap_last_days"].to_numpy(np.float64)
        day = _whole(last)
        return _Pairs(
            as_ofs.tolist(),
            number,
            np.where(number >= 0, day[number], NEVER),
            np.where(number >= 0, _whole(last - gap)[number], NEVER),
            np.where(number >= 0, _whole(rows["pair_purchases"].to_numpy(np.float64))[number], NEVER),
        )


def label_contradictions(rows: pd.DataFrame, horizon: int) -> tuple[Bools, Bools]:
    """Which labels later features of the same pair decide, and which of those say otherwise; each of shape (rows,).

    A label must be 1 where a later row names a purchase day inside its window. It must be 0 where no purchase was
    added up to a date at or after the window's end, or where all that were added are known to lie behind the window.
    """
    pairs = _Pairs.of(rows)
    must_one, must_zero = np.zeros(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
    for at, start in enumerate(pairs.as_ofs):
        own = np.flatnonzero(pairs.row[:, at] >= 0)
        if not len(own):
            continue
        end = start + horizon
        one, zero = np.zeros(len(own), dtype=bool), np.zeros(len(own), dtype=bool)
        for later in range(at + 1, len(pairs.as_ofs)):
            seen = pairs.row[own, later] >= 0
            last, before = pairs.last[own, later], pairs.before[own, later]
            added = pairs.count[own, later] - pairs.count[own, at]
            one |= seen & (_inside(last, start, end) | _inside(before, start, end))
            if pairs.as_ofs[later] >= end:
                behind = (last >= end).astype(np.int64) + (before >= end)
                zero |= seen & (added == np.minimum(behind, 2)) & (pairs.count[own, at] != NEVER)
        must_one[pairs.row[own, at]] = one
        must_zero[pairs.row[own, at]] = zero & ~one
    labels = rows["label"].to_numpy() == 1
    return must_one | must_zero, (must_one & ~labels) | (must_zero & labels)


def copied_customers(rows: pd.DataFrame, settings: PoisoningSettings) -> tuple[set[int], int]:
    """Customers of one date most of whose pairs another one has too, with the same days and counts.

    Two customers are twins where their sets of (product, newest purchase, first purchase, purchases) overlap by
    `twin_similarity` (Jaccard). A detail that more than 50 customers share tells nothing and is left out.

    Returns:
        Codes of the customers who have a twin, and how many customers have enough pairs to be compared.
    """
    import pandas as pd
    from scipy.sparse import coo_matrix

    details = rows[["product_id", "pair_recency_days", "pair_tenure_days", "pair_purchases"]]
    keys = pd.util.hash_pandas_object(details, index=False).to_numpy()
    frame = pd.DataFrame({"customer": rows["customer_id"].to_numpy(), "key": keys}).drop_duplicates()
    sizes = frame.groupby("customer")["key"].transform("size")
    frame = frame[sizes >= settings.twin_min_pairs]
    if frame.empty:
        return set(), 0
    customers, names = pd.factorize(frame["customer"])
    size = np.bincount(customers)
    shared_by = frame.groupby("key")["customer"].transform("size").to_numpy()
    telling = (shared_by > 1) & (shared_by <= 50)
    columns = pd.factorize(frame["key"][telling])[0]
    shape = (len(names), int(columns.max(initial=0)) + 1)
    has = coo_matrix((np.ones(len(columns), np.int32), (customers[telling], columns)), shape=shape).tocsr()
    common = (has @ has.T).tocoo()
    apart = common.row != common.col
    one, other, both = common.row[apart], common.col[apart], common.data[apart]
    alike = both / (size[one] + size[other] - both) >= settings.twin_similarity
    return {int(names[code]) for code in one[alike]}, len(names)


def _inside(days: Ints, start: int, end: int) -> Bools:
    return (days >= start) & (days < end)


def _whole(values: npt.NDArray[np.float64]) -> Ints:
    return np.where(np.isnan(values), NEVER, values).astype(np.int64)
