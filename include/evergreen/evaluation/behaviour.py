"""Behaviour tests of a model on edited rows of its holdout: invariance, direction, minimum function.

After Ribeiro, Wu, Guestrin, Singh (2020), "Beyond accuracy: behavioral testing of NLP models with CheckList". The model
is asked as scoring asks it; the edits are those of `evergreen.evaluation.edits`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from evergreen.errors import EvaluationError
from evergreen.evaluation.edits import WEEK_DAYS, bought_once_more, bought_sooner, bought_weekly, can_move, renamed
from evergreen.settings.checks import BehaviourSettings

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "evergreen.behaviour/1"
ALONE = 20  # rows that are scored one at a time
FEWEST_PAIRS = 3  # of a customer: with fewer, coming first says little


class Predict(Protocol):
    """Features in, probabilities out, such as `Bundle.predict`."""

    def __call__(self, frame: Any, /) -> npt.NDArray[np.float64]:
        """Probabilities, float64[rows]."""
        ...


def behaviour(predict: Predict, frame: pd.DataFrame, settings: BehaviourSettings) -> dict[str, Any]:
    """Runs all behaviour tests; the same holdout and model give the same figures.

    Args:
        predict: the model.
        frame: the holdout: `customer_id`, `product_id` and features.
        settings: rows, customers and seed.

    Returns:
        JSON: `invariance` (`ids`, `order`: `max_change` of a probability; `renamed`: mean absolute change as a share of
        the mean probability, `change_share`), `direction` (`sooner`, `once_more`: `change_share`, the mean change as a
        share of the mean probability; `raised`, the share of rows whose probability did not fall; `rows`) and
        `minimum_function` (`first_share`: customers for whom a weekly purchase stands above all others; `customers`).

    Raises:
        EvaluationError: no row can be edited, or no customer has several pairs.
    """
    rng = np.random.default_rng(settings.seed)
    some = _take(frame, np.arange(len(frame)), settings.rows, rng)
    return {
        "format": FORMAT,
        "invariance": _invariance(predict, some, rng),
        "direction": _direction(predict, frame, settings, rng),
        "minimum_function": _minimum_function(predict, frame, settings, rng),
    }


def _invariance(predict: Predict, some: pd.DataFrame, rng: np.random.Generator) -> dict[str, Any]:
    usual = predict(some)
    shifted = some.assign(
        customer_id="x" + some["customer_id"].astype(str), product_id=some["product_id"].to_numpy()[::-1]
    )
    order = rng.permutation(len(some))
    shuffled = np.empty(len(some))
    shuffled[order] = predict(some.iloc[order])
    alone = np.array([predict(some.iloc[[row]])[0] for row in range(min(ALONE, len(some)))])
    change = np.abs(predict(renamed(some, rng)) - usual)
    in_order = max(_largest(shuffled - usual), _largest(alone - usual[: len(alone)]))
    return {
        "ids": {"max_change": _largest(predict(shifted) - usual)},
        "order": {"max_change": in_order},
        "renamed": {"change_share": float(change.mean() / usual.mean()), "rows": len(some)},
    }


def _direction(
    predict: Predict, frame: pd.DataFrame, settings: BehaviourSettings, rng: np.random.Generator
) -> dict[str, Any]:
    rows = np.flatnonzero(can_move(frame))
    if not len(rows):
        raise EvaluationError("no pair of the holdout was bought before its customer's newest visit: nothing to edit")
    some = _take(frame, rows, settings.rows, rng)
    usual = predict(some)
    found = {}
    for name, edit in (("sooner", bought_sooner), ("once_more", bought_once_more)):
        change = predict(edit(some)) - usual
        found[name] = {
            "change_share": float(change.mean() / usual.mean()),
            "raised": float((change >= 0).mean()),
            "rows": len(some),
        }
    return found


def _minimum_function(
    predict: Predict, frame: pd.DataFrame, settings: BehaviourSettings, rng: np.random.Generator
) -> dict[str, Any]:
    import pandas as pd

    codes, customers = pd.factorize(frame["customer_id"])
    count = len(customers)
    on_sale = _sold_lately(frame)
    several = np.bincount(codes, minlength=count) >= FEWEST_PAIRS
    able = np.flatnonzero(several & (np.bincount(codes[on_sale], minlength=count) > 0))
    if not len(able):
        raise EvaluationError(f"no customer of the holdout has {FEWEST_PAIRS} pairs, one of them of a product on sale")
    drawn = rng.choice(able, min(len(able), settings.customers), replace=False)
    rows = np.flatnonzero(np.isin(codes, drawn))
    some, owners = frame.iloc[rows], codes[rows]
    shuffled = rng.permutation(len(rows))
    shuffled = shuffled[on_sale[rows][shuffled]]
    chosen = np.zeros(len(rows), dtype=bool)
    chosen[shuffled[np.unique(owners[shuffled], return_index=True)[1]]] = True
    scores = pd.Series(predict(bought_weekly(some, chosen)))
    best_other = scores.where(~chosen).groupby(owners).max()
    weekly = scores[chosen].groupby(owners[chosen]).max()
    return {"first_share": float((weekly > best_other).mean()), "customers": len(weekly)}


def _sold_lately(frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Rows whose product was sold in the last week: nobody buys weekly what is no longer there."""
    if "product_recency_days" not in frame:
        return np.ones(len(frame), dtype=bool)
    return np.asarray(frame["product_recency_days"], np.float64) <= WEEK_DAYS


def _take(frame: pd.DataFrame, rows: npt.NDArray[np.intp], limit: int, rng: np.random.Generator) -> pd.DataFrame:
    chosen = rows if len(rows) <= limit else np.sort(rng.choice(rows, limit, replace=False))
    return frame.iloc[chosen].reset_index(drop=True)


def _largest(difference: npt.NDArray[np.float64]) -> float:
    return float(np.abs(difference).max())
