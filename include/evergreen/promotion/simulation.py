"""How often the verdict errs, found by asking its own gates about models whose true difference is known.

Everything begins with real scores: members of one ensemble, trained alike but for their random numbers, on a real
holdout. What makes two models equal, or one better by so much, is then arranged; each function says how.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from evergreen.evaluation.intervals import drawn, paired_gains, percentile_interval
from evergreen.evaluation.metrics import Panel
from evergreen.evaluation.ranking import Ranking
from evergreen.evaluation.scores import Scores
from evergreen.evaluation.slices import sizeable_slices
from evergreen.models.calibration import BetaCalibration, sigmoid
from evergreen.promotion.gates import Challenger, Champion, GateResult, Policy, Status
from evergreen.promotion.gates.comparison import non_inferiority, slice_harm
from evergreen.promotion.gates.standing import PROFIT, campaign_profit
from evergreen.promotion.gates.statistics import lower_bound
from evergreen.settings.prediction import HORIZON_DAYS

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

BAG = 3  # members that make one model, as in the default candidate
DAYS = 30
DAY = date(2000, 1, 1)  # of all data: no champion here is old enough to be refreshed
MOST, STEPS = 4.0, 14  # greatest weight of a weaker model, and halvings of the search for it
Comparing = Callable[[Challenger, Champion, Policy], GateResult]
BESIDE: tuple[Comparing, ...] = (non_inferiority, slice_harm, campaign_profit)
"""The gates that compare, apart from superiority. All others are taken as passed: they can only refuse more."""


@dataclass(frozen=True, eq=False)
class RealScores:
    """A holdout, and what several models say about its pairs."""

    scores: Scores  # keys, labels and slices; the probabilities are the mean of the members'
    members: npt.NDArray[np.float32]  # probabilities, shape (members, pairs)
    weaker: Floats  # probabilities of a model that knows much less, shape (pairs,)
    visits_a_day: Floats  # of each pair's customer, shape (pairs,)

    @cached_property
    def codes(self) -> Rows:
        """Number of each pair's customer."""
        return np.unique(self.scores.customer_ids.astype(str), return_inverse=True)[1].astype(np.intp)

    @cached_property
    def customers(self) -> int:
        """How many there are."""
        return int(self.codes.max()) + 1

    @cached_property
    def _by_customer(self) -> tuple[Rows, Rows]:
        order = np.argsort(self.codes, kind="stable")
        return order, np.searchsorted(self.codes[order], np.arange(self.customers + 1))

    def rows_of(self, customers: Rows) -> tuple[Rows, Rows]:
        """Rows of some customers and the place in the list of each row's; one who is listed twice counts as two."""
        order, starts = self._by_customer
        sizes = starts[customers + 1] - starts[customers]
        owners = np.repeat(np.arange(len(customers)), sizes)
        within = np.arange(len(owners)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return order[starts[customers][owners] + within], owners

    def at(self, rows: Rows, owners: Rows, probabilities: Floats, labels: npt.NDArray[np.int8] | None = None) -> Scores:
        """Scores of some rows, whose clusters are the owners."""
        own: Any = owners  # numbers do as identifiers, and are quicker to compare
        products: Any = rows
        slices = {name: values[rows] for name, values in self.scores.slices.items()}
        return Scores(own, products, self.scores.labels[rows] if labels is None else labels, probabilities, slices)

    def bags(self, rows: Rows, owners: Rows, places: Sequence[Iterable[int]], rng: np.random.Generator) -> list[Floats]:
        """Models, each the mean of the members at its places, whose order is another one for each customer.

        Whichever member is the best for a customer, it is as likely in one model as in another: the models differ, and
        are equal in expectation.
        """
        order = np.argsort(rng.random((int(owners.max()) + 1, len(self.members))), axis=1)
        return [
            np.mean([self.members[order[owners, place], rows] for place in one], axis=0, dtype=np.float64)
            for one in places
        ]


def equal_models(
    real: RealScores, policies: Mapping[str, Policy], pairs: int, customers: int, seed: int
) -> dict[str, Any]:
    """A/A: how often one of two models that are equal in expectation is promoted over the other, at one look.

    Each pair of models is judged on the real labels of other customers, drawn without replacement.
    """
    rng = np.random.default_rng(seed)
    count = _Count(policies)
    for _ in range(pairs):
        rows, owners = real.rows_of(rng.choice(real.customers, min(customers, real.customers), replace=False))
        new, old = real.bags(rows, owners, (range(BAG), range(BAG, 2 * BAG)), rng)
        count.add(real.at(rows, owners, new), real.at(rows, owners, old))
    return {"pairs": pairs, "customers": min(customers, real.customers), **count.rates()}


def equal_models_month(
    real: RealScores, policies: Mapping[str, Policy], months: int, customers: int, seed: int
) -> dict[str, Any]:
    """A/A over 30 days: how often a champion is replaced by any of 30 challengers that are all equal to it.

    `superior` counts claims of superiority alone, `promoted` those that no other gate held back. A smaller holdout
    leaves more doubts to the others: the first kind is what a holdout of any size has.

    Every day there is another challenger, and a holdout whose label window begins a day later: 27 of 28 days and all
    customers are those of the day before. Labels are drawn: a customer visits at random with the real frequency and
    buys each product at a visit such that it is bought within 28 days with the probability that the members give it.
    """
    rng = np.random.default_rng(seed)
    first: dict[str, dict[str, list[int]]] = {name: {"superior": [], "promoted": []} for name in policies}
    others = np.arange(BAG, len(real.members))
    places: list[Iterable[int]] = [range(BAG)]
    places += [rng.choice(others, BAG, replace=False).tolist() for _ in range(DAYS)]
    for _ in range(months):
        rows, owners = real.rows_of(rng.choice(real.customers, min(customers, real.customers), replace=False))
        models = real.bags(rows, owners, places, rng)
        waiting, unclaimed = dict(policies), set(policies)
        for day, labels in enumerate(_windows(real, rows, owners, rng)):
            new, old = (real.at(rows, owners, one, labels) for one in (models[1 + day], models[0]))
            ahead = _superior(new, old, waiting)
            for name in unclaimed.intersection(ahead):
                first[name]["superior"].append(day)
                unclaimed.remove(name)
            for name in _promoting(new, old, waiting, superior=ahead):
                first[name]["promoted"].append(day)
                del waiting[name]
    return {
        "months": months,
        "days": DAYS,
        "customers": min(customers, real.customers),
        **{
            name: {
                f"{what}_within_{within}_days": rate(sum(day < within for day in days), months)
                for what, days in found.items()
                for within in (1, 6, DAYS)
            }
            for name, found in first.items()
        },
    }


def true_gain(real: RealScores, policies: Mapping[str, Policy], gain: float, trials: int, seed: int) -> dict[str, Any]:
    """Power: how often a challenger is promoted whose ROC AUC is truly higher by `gain`.

    The challenger is the members' mean. The champion's log-odds are drawn from there towards those of a weaker model,
    so far that ROC AUC on the whole holdout falls by `gain`; it is calibrated. Each trial draws as many customers as
    there are, with replacement: the holdout is the population that trials are drawn from.
    """
    rng = np.random.default_rng(seed)
    weak = Weakened.by(real, np.arange(len(real.scores)), gain)
    count = _Count(policies)
    gains = []
    for _ in range(trials):
        rows, owners = real.rows_of(rng.integers(0, real.customers, real.customers))
        new = real.at(rows, owners, real.scores.probabilities[rows])
        old = real.at(rows, owners, weak.see(real, rows))
        gains.append(_auc(new) - _auc(old))
        count.add(new, old)
    return {
        "true_gain_roc_auc": gain,
        "mean_gain_roc_auc": float(np.mean(gains)),
        "true_gain_average_precision": weak.precision_loss,
        "trials": trials,
        "customers": real.customers,
        **count.rates(),
    }


def harmed_slices(real: RealScores, policy: Policy, loss: float, trials: int, seed: int) -> dict[str, Any]:
    """How often a challenger is refused that is better on the whole, and worse by `loss` of ROC AUC in one slice.

    The champion is that of `true_gain` with a gain of 0.005. In the slice the challenger is drawn so far towards the
    weaker model that its ROC AUC there is lower than the champion's by `loss`; it is calibrated there.
    """
    rng = np.random.default_rng(seed)
    weak = Weakened.by(real, np.arange(len(real.scores)), 0.005)
    found = []
    for part in sizeable_slices(real.scores, policy.evaluation.slices):
        inside = np.zeros(len(real.scores), dtype=bool)
        inside[part.rows] = True
        mine = real.scores.take(part.rows)
        behind = _auc(mine) - Ranking(mine.labels, weak.see(real, part.rows)).weigh().roc_auc()
        harmed = Weakened.by(real, part.rows, behind + loss)
        reached = _auc(mine) - behind - Ranking(mine.labels, harmed.see(real, part.rows)).weigh().roc_auc()
        count = {"by_slice_harm": 0, "refused": 0}
        for _ in range(trials):
            rows, owners = real.rows_of(rng.integers(0, real.customers, real.customers))
            usual = real.scores.probabilities[rows]
            new = real.at(rows, owners, np.where(inside[rows], harmed.see(real, rows), usual))
            old = real.at(rows, owners, weak.see(real, rows))
            noticed = _status(slice_harm, new, old, policy) is not Status.PASSED
            count["by_slice_harm"] += noticed
            count["refused"] += noticed or not _promoting(new, old, {"": policy})
        found.append(
            {
                "dimension": part.dimension,
                "slice": part.label,
                "pairs": len(part.rows),
                "positives": int(mine.labels.sum()),
                "customers": len(np.unique(real.codes[part.rows])),
                "loss_roc_auc": float(reached),
                **_rates(count, trials),
            }
        )
    noticed, refused = (sum(one[name]["count"] for one in found) for name in ("by_slice_harm", "refused"))
    every = trials * len(found)
    return {
        "loss_roc_auc": loss,
        "trials_a_slice": trials,
        "by_slice_harm": rate(noticed, every),
        "refused": rate(refused, every),
        "slices": found,
    }


@dataclass(frozen=True)
class Weakened:
    """A model whose log-odds are drawn towards those of a weaker one, and that is calibrated."""

    weight: float  # of the weaker one; beyond 1 the better one counts negatively
    calibration: BetaCalibration
    precision_loss: float  # of average precision, on the rows that it was made for

    @classmethod
    def by(cls, real: RealScores, rows: Rows, loss: float) -> Weakened:
        """The weight that costs so much ROC AUC on these rows, found by halving."""
        labels, better, weaker = real.scores.labels[rows], real.scores.probabilities[rows], real.weaker[rows]
        before = Ranking(labels, better).weigh()
        low, high = 0.0, MOST
        for _ in range(STEPS):
            weight = (low + high) / 2
            cost = before.roc_auc() - Ranking(labels, _mixed(better, weaker, weight)).weigh().roc_auc()
            low, high = (weight, high) if cost < loss else (low, weight)
        seen = _mixed(better, weaker, weight)
        after = Ranking(labels, seen).weigh()
        precision_loss = before.average_precision() - after.average_precision()
        return cls(weight, BetaCalibration.fit(seen, labels), precision_loss)

    def see(self, real: RealScores, rows: Rows) -> Floats:
        """What it says about some rows."""
        return self.calibration.apply(_mixed(real.scores.probabilities[rows], real.weaker[rows], self.weight))


def rate(count: int, trials: int) -> dict[str, Any]:
    """A share with its exact 95 % interval (Clopper & Pearson 1934)."""
    from scipy.stats import beta

    low = beta.ppf(0.025, count, trials - count + 1) if count else 0.0
    high = beta.ppf(0.975, count + 1, trials - count) if count < trials else 1.0
    return {"count": count, "share": count / trials, "low": round(float(low), 4), "high": round(float(high), 4)}


class _Count:
    """How often a challenger was superior, and promoted, under each of some policies."""

    def __init__(self, policies: Mapping[str, Policy]) -> None:
        self._policies = policies
        self._count = {name: {"superior": 0, "promoted": 0} for name in policies}
        self._trials = 0

    def add(self, new: Scores, old: Scores) -> None:
        """One trial."""
        self._trials += 1
        ahead = _superior(new, old, self._policies)
        promoted = _promoting(new, old, {name: self._policies[name] for name in ahead}, superior=ahead)
        for name in ahead:
            self._count[name]["superior"] += 1
        for name in promoted:
            self._count[name]["promoted"] += 1

    def rates(self) -> dict[str, Any]:
        """Shares of the trials with their intervals, by policy."""
        return {name: _rates(found, self._trials) for name, found in self._count.items()}


def _superior(new: Scores, old: Scores, policies: Mapping[str, Policy]) -> list[str]:
    """Under which policies it passes the gate `superiority`: its statistic, worked out once for all of them."""
    if not policies:
        return []
    first = next(iter(policies.values()))
    metric = first.promotion.primary_metric
    gain = paired_gains(new, old, first.evaluation, (metric,))[metric]
    return [
        name
        for name, policy in policies.items()
        if lower_bound(gain, policy.promotion.looks) > policy.promotion.min_gain
    ]


def _promoting(
    new: Scores, old: Scores, policies: Mapping[str, Policy], superior: list[str] | None = None
) -> list[str]:
    """Under which policies all gates that compare pass; those beside superiority are asked where it matters alone."""
    ahead = _superior(new, old, policies) if superior is None else superior
    return [name for name in ahead if all(_status(gate, new, old, policies[name]) is Status.PASSED for gate in BESIDE)]


def _status(gate: Comparing, new: Scores, old: Scores, policy: Policy) -> Status:
    challenger = Challenger(
        version="2",
        bundle_digest="b" * 64,
        data_day=DAY,
        newest_day=DAY,
        holdout=DAY,
        as_ofs=(DAY,),
        scores=new,
        evaluation=_profit(new, policy) if gate is campaign_profit else {},
        quality={},
        drift={},
        generation=1,
    )
    return gate(challenger, Champion("1", "a" * 64, DAY, old), policy).status


def _profit(scores: Scores, policy: Policy) -> dict[str, Any]:
    settings = policy.evaluation
    panel = Panel(scores, settings)
    parts = [panel.measure_many(weights, (PROFIT,))[PROFIT] for weights in drawn(len(panel.customers), settings)]
    value = panel.measure(None, (PROFIT,))[PROFIT]
    interval = percentile_interval(value, np.concatenate(parts), settings.confidence)
    return {"metrics": {PROFIT: interval.as_dict()}}


def _windows(real: RealScores, rows: Rows, owners: Rows, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int8]]:
    """Labels of 30 windows of 28 days, each beginning a day after the one before."""
    daily = 1 - (1 - np.clip(real.scores.probabilities[rows], 0, 0.999)) ** (1 / HORIZON_DAYS)
    busiest = np.zeros(int(owners.max()) + 1)
    np.maximum.at(busiest, owners, np.maximum(daily, real.visits_a_day[rows]))
    at_a_visit = daily / busiest[owners]
    bought = np.zeros((DAYS + HORIZON_DAYS, len(rows)), dtype=bool)
    for today in bought:
        visitors = (rng.random(len(busiest)) < busiest)[owners]
        today[visitors] = rng.random(int(visitors.sum())) < at_a_visit[visitors]
    for day in range(DAYS):
        window: npt.NDArray[np.int8] = np.any(bought[day : day + HORIZON_DAYS], axis=0).astype(np.int8)
        yield window


def _rates(count: Mapping[str, int], trials: int) -> dict[str, Any]:
    return {name: rate(int(found), trials) for name, found in count.items()}


def _mixed(better: Floats, weaker: Floats, weight: float) -> Floats:
    return sigmoid((1 - weight) * _logits(better) + weight * _logits(weaker))


def _auc(scores: Scores) -> float:
    return Ranking(scores.labels, scores.probabilities).weigh().roc_auc()


def _logits(probabilities: Floats) -> Floats:
    kept = np.clip(probabilities, 1e-9, 1 - 1e-9)
    return np.log(kept) - np.log1p(-kept)
