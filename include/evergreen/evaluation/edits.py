"""Edits of a customer's history, carried through to every feature column that depends on it.

Rows of a holdout hold features, not the stored state behind them. For pairs whose whole history lies in the days that
are remembered, a purchase that moves or comes on top changes each pair and interaction feature in a way that follows
from the other columns; those formulas stand here, and a test holds them against `evergreen.features.relative` on
edited state. The customer's and the product's own columns stay: the purchase goes into a basket that the customer
bought anyway. Columns that a frame lacks are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from evergreen.features import relative
from evergreen.features.registry import PAIR_HALF_LIVES
from evergreen.lake.feature_columns import CUSTOMER_COLUMNS, MEMORY_DAYS, PAIR_COLUMNS, WINDOWS
from evergreen.settings.prediction import ACTIVE_DAYS

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
Changed = dict[str, Any]

WEEK_DAYS, WEEKS = 7, 52
TODAY = 20_000  # an epoch day; features of a rhythm do not depend on it
RECENCY, COUNT = "pair_recency_days", "pair_purchases"
SEASONS = {"pair_season_purchases": (338, 365), "pair_season_nearby": (324, 379)}  # ages of `relative.pair`
CUSTOMER_RHYTHM = re.compile(
    r"days_since_last_purchase|total_purchases|customer_(tenure_days|days_\d+d|decayed_\d+d|gap_.*|overdue_share|due_share"
    r"|regularity|momentum_90d|season_days)|user_segment|purchase_frequency_tier"
)
STEP = re.compile(r"(pair|customer)_step_(\d+)_(days|units)")
PAIR_RHYTHM = re.compile(
    r"pair_(recency_days|tenure_days|purchases.*|decayed_\d+d|rate_per_28d|gap_.*|regularity|days_to_expected|season_.*)"
)


def can_move(frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Rows whose newest purchase may come nearer: remembered as a whole, and older than the customer's newest visit."""
    whole = _column(frame, "pair_tenure_days", 0.0) <= min(MEMORY_DAYS, ACTIVE_DAYS)
    movable: npt.NDArray[np.bool_] = whole & (_column(frame, RECENCY) > _visit(frame))
    return movable


def bought_sooner(frame: pd.DataFrame) -> pd.DataFrame:
    """The pair's newest purchase is moved to the customer's newest visit. For rows of `can_move`."""
    age, visit, count = _column(frame, RECENCY), _visit(frame), _column(frame, COUNT)
    tenure = np.where(count > 1, _column(frame, "pair_tenure_days"), visit)
    gap = _column(frame, "pair_gap_last_days") + age - visit
    squares = _gap_squares(frame) + gap**2 - _column(frame, "pair_gap_last_days") ** 2
    made = _windows(frame, come=visit, gone=age) | _history(count, tenure, visit, gap, squares)
    made["pair_share_of_visits_since_first"] = np.where(
        count > 1, _column(frame, "pair_share_of_visits_since_first"), 1.0
    )
    made["pair_step_1_days"] = visit
    return _with(frame, made)


def bought_once_more(frame: pd.DataFrame) -> pd.DataFrame:
    """The customer's newest visit also holds the product, as many units as usual. For rows of `can_move`."""
    age, visit, count = _column(frame, RECENCY), _visit(frame), _column(frame, COUNT)
    gap = age - visit
    tenure, more = _column(frame, "pair_tenure_days"), count + 1
    made = _windows(frame, come=visit) | _history(more, tenure, visit, gap, _gap_squares(frame) + gap**2)
    visits = count / _column(frame, "pair_share_of_visits_since_first")
    made |= {
        "pair_quantity_std": _column(frame, "pair_quantity_std") * np.sqrt(count / more),
        "pair_quantity_365d": _column(frame, "pair_quantity_365d") + _column(frame, "pair_quantity_mean"),
        "pair_share_of_visits_since_first": more / visits,
        "pair_share_of_spend": _column(frame, "pair_share_of_spend") * more / count,
        "pair_share_of_product": _column(frame, "pair_share_of_product") * more / count,
        **_steps(frame, visit),
    }
    return _with(frame, made)


def bought_weekly(frame: pd.DataFrame, chosen: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """Customers who come every week of a year, and buy the product of the chosen rows each time.

    Args:
        frame: all pairs of some customers.
        chosen: one row of each customer: the product that is bought weekly.
    """
    weekly = _weekly_features()
    made: Changed = {}
    for name, value in weekly.items():
        if name in frame and CUSTOMER_RHYTHM.fullmatch(name):
            made[name] = np.full(len(frame), value, dtype=object if isinstance(value, str) else np.float64)
        elif name in frame and PAIR_RHYTHM.fullmatch(name):
            made[name] = np.where(chosen, value, _column(frame, name))
    visits = np.minimum(np.ceil(_column(frame, "pair_tenure_days") / WEEK_DAYS), WEEKS)
    missed = np.minimum(np.floor((_column(frame, RECENCY) - 1) / WEEK_DAYS), WEEKS)
    made["pair_share_of_visits_since_first"] = np.where(chosen, 1.0, np.minimum(_column(frame, COUNT) / visits, 1.0))
    made["visits_since_pair_purchase"] = np.where(chosen, 0.0, missed)
    for name, side, step, what in _named_steps(frame):
        days = 1 + WEEK_DAYS * (step - 1) if what == "days" else _column(frame, "pair_quantity_mean")
        made[name] = np.where(chosen | (side == "customer"), days, _column(frame, name))
    more = WEEKS / _column(frame, COUNT)
    grown = {
        "pair_quantity_365d": WEEKS * _column(frame, "pair_quantity_mean"),
        "pair_share_of_spend": _grown(_column(frame, "pair_share_of_spend"), more),
        "pair_share_of_product": _grown(_column(frame, "pair_share_of_product"), more),
        "product_recency_days": np.minimum(_column(frame, "product_recency_days"), weekly[RECENCY]),
    }
    made |= {name: np.where(chosen, values, _column(frame, name)) for name, values in grown.items()}
    return _with(frame, made, visited=False)


def renamed(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Each product bears the name of another one: columns of its words change hands."""
    import pandas as pd

    words = [name for name in frame if str(name).startswith("text_hash_") or name == "description"]
    codes, products = pd.factorize(frame["product_id"])
    first = np.unique(codes, return_index=True)[1]
    giver = first[rng.permutation(len(products))]
    return frame.assign(**{str(name): frame[name].to_numpy()[giver[codes]] for name in words})


def _weekly_features() -> dict[str, Any]:
    """Pair and customer features of a purchase on each of 52 days, a week apart, by the real feature functions."""
    days = [TODAY - 1 - WEEK_DAYS * week for week in range(WEEKS)][::-1]
    stored: dict[str, Any] = {
        column.name: [[]] if column.kind == "list<int64>" else [None] for column in (*PAIR_COLUMNS, *CUSTOMER_COLUMNS)
    }
    for side in ("pair", "customer"):
        stored |= {
            f"{side}_purchase_days": [days],
            f"{side}_total_purchases": [WEEKS],
            f"{side}_first_purchase_day": [days[0]],
            f"{side}_last_purchase_day": [days[-1]],
            f"{side}_last_gap_days": [WEEK_DAYS],
            f"{side}_sum_gap_squares": [WEEK_DAYS**2 * (WEEKS - 1)],
        }
    stored["pair_purchase_quantities"] = [[1] * WEEKS]
    stored["customer_season_purchases"] = [sum(338 <= TODAY - day <= 365 for day in days)]
    stored |= {f"customer_purchases_{w}d": [sum(TODAY - day <= w for day in days)] for w in WINDOWS}
    made = {**relative.pair(stored, TODAY), **relative.customer(stored, TODAY)}
    return {name: values[0] for name, values in made.items()}


def _history(count: Floats, tenure: Floats, recency: Floats, gap: Floats, squares: Floats) -> Changed:
    """Features of a pair's rhythm from the number of purchases, their ends and their gaps."""
    gaps = np.where(count > 1, count - 1, np.nan)
    mean = (tenure - recency) / gaps
    deviation = np.sqrt(np.maximum(squares / gaps - mean**2, 0.0))
    return {
        RECENCY: recency,
        "pair_tenure_days": tenure,
        COUNT: count,
        "pair_rate_per_28d": count * 28 / np.maximum(tenure, 28),
        "pair_gap_mean_days": mean,
        "pair_gap_std_days": deviation,
        "pair_gap_last_days": np.where(count > 1, gap, np.nan),
        "pair_gap_share_elapsed": _ratio(recency, mean),
        "pair_regularity": _ratio(deviation, mean),
        "pair_days_to_expected": mean - recency,
    }


def _windows(frame: pd.DataFrame, *, come: Floats, gone: Floats | None = None) -> Changed:
    """Counts of windows, seasons and decays once a purchase of one age has come, and one of another age has gone."""
    names = [
        *(f"pair_purchases_{w}d" for w in WINDOWS[1:]),
        *(f"pair_decayed_{h}d" for h in PAIR_HALF_LIVES),
        *SEASONS,
    ]
    lost = {name: 0.0 if gone is None else _worth(name, gone) for name in names}
    return {name: _column(frame, name) + _worth(name, come) - lost[name] for name in names}


def _steps(frame: pd.DataFrame, visit: Floats) -> Changed:
    """The list of the pair's newest purchases with one more in front; the oldest drops out."""
    made: Changed = {}
    for name, side, step, what in _named_steps(frame):
        if side == "pair" and step == 1:
            made[name] = visit if what == "days" else _column(frame, "pair_quantity_mean")
        elif side == "pair":
            made[name] = _column(frame, f"pair_step_{step - 1}_{what}")
    return made


def _named_steps(frame: pd.DataFrame) -> list[tuple[str, str, int, str]]:
    """(name, pair or customer, number of the step, days or units) of the columns that list newest purchases."""
    found = [(str(name), STEP.fullmatch(str(name))) for name in frame]
    return [(name, match[1], int(match[2]), match[3]) for name, match in found if match]


def _worth(name: str, age: Floats) -> Floats:
    """What one purchase of that age is worth in a count of purchases."""
    if name in SEASONS:
        youngest, oldest = SEASONS[name]
        return ((age >= youngest) & (age <= oldest)).astype(np.float64)
    days = int(name.rsplit("_", 1)[1].removesuffix("d"))
    if name.startswith("pair_decayed"):
        worth: Floats = np.where(age <= MEMORY_DAYS, 0.5 ** (age / days), 0.0)
        return worth
    return (age <= days).astype(np.float64)


def _with(frame: pd.DataFrame, made: Mapping[str, Any], *, visited: bool = True) -> pd.DataFrame:
    """The frame with new columns, where it has them, and with the interactions that follow from them."""
    edited = frame.assign(**{name: values for name, values in made.items() if name in frame})
    share = _ratio(_column(edited, "pair_purchases_365d"), _column(edited, "customer_days_365d"))
    recency = _column(edited, RECENCY)
    follows: Changed = {
        "pair_share_of_visits_365d": share,
        "recency_pair_to_customer": (recency + 1) / (_column(edited, "days_since_last_purchase") + 1),
        "gap_pair_to_customer": _ratio(
            _column(edited, "pair_gap_mean_days"), _column(edited, "customer_gap_mean_days")
        ),
        "pair_recency_to_product_gap": _ratio(recency, _column(edited, "product_repeat_gap_days")),
        "pair_rate_by_momentum": _column(edited, "pair_decayed_60d") * _column(edited, "product_momentum_28d"),
        "pair_rate_by_season": _column(edited, "pair_decayed_180d") * _column(edited, "product_season_index"),
        "visit_rate_by_repurchase": _column(edited, "customer_decayed_30d")
        * _column(edited, "product_repurchase_rate"),
        "expected_pair_purchases_28d": _column(edited, "customer_days_90d") * 28 / 90 * share,
    }
    if visited:
        follows["visits_since_pair_purchase"] = np.zeros(len(frame))  # the newest visit is the purchase
    return edited.assign(**{name: values for name, values in follows.items() if name in frame})


def _grown(share: Floats, times: Floats) -> Floats:
    """A part's share of the whole after the part alone has grown so many times."""
    return _ratio(share * times, 1 + share * (times - 1))


def _visit(frame: pd.DataFrame) -> Floats:
    """Days since the customer's newest visit; where nobody knows, it was yesterday."""
    return _column(frame, "days_since_last_purchase", 1.0)


def _gap_squares(frame: pd.DataFrame) -> Floats:
    """Sum of the squared gaps, from their mean and deviation; 0 where there was one purchase."""
    gaps = _column(frame, COUNT) - 1
    squares = (_column(frame, "pair_gap_std_days") ** 2 + _column(frame, "pair_gap_mean_days") ** 2) * gaps
    return np.where(gaps > 0, squares, 0.0)


def _column(frame: pd.DataFrame, name: str, missing: float = np.nan) -> Floats:
    if name not in frame:
        return np.full(len(frame), missing)
    return np.asarray(frame[name], dtype=np.float64)


def _ratio(above: Floats, below: Floats) -> Floats:
    """Quotient; NaN where `below` is 0, as in `evergreen.features.relative`."""
    found: Floats = np.divide(above, below, out=np.full(len(above), np.nan), where=below != 0)
    return found
