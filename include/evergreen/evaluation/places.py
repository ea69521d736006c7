"""Each pair's place in its customer's list, with equal probabilities sharing their places evenly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Places:
    """Where pairs stand among the pairs of their customer, highest probability first.

    Pairs of equal probability share the places that they take together: each gets the mean over all orders that they
    could stand in (what `sklearn.metrics.ndcg_score` does). The result depends on no row order and favours no
    heuristic that gives many pairs the same score.
    """

    customers: npt.NDArray[np.intp]  # code of each pair's customer, 0 .. n_customers - 1
    first: npt.NDArray[np.intp]  # places above the pair's tie, 0 = it stands on top
    after: npt.NDArray[np.intp]  # `first` + size of the tie

    @staticmethod
    def of(customers: npt.NDArray[np.intp], probabilities: Floats) -> Places:
        """Places of n pairs; both arrays have shape (n,)."""
        order = np.lexsort((-probabilities, customers))
        sorted_customers, sorted_probabilities = customers[order], probabilities[order]
        rows = np.arange(len(order))
        new_customer = np.diff(sorted_customers, prepend=-1) != 0
        new_tie = new_customer | (np.diff(sorted_probabilities, prepend=np.inf) != 0)
        start_of_customer = np.maximum.accumulate(np.where(new_customer, rows, 0))
        starts = np.flatnonzero(new_tie)
        tie = np.cumsum(new_tie) - 1
        ends = np.append(starts[1:], len(order))
        first, after = np.empty_like(order), np.empty_like(order)
        first[order] = starts[tie] - start_of_customer
        after[order] = ends[tie] - start_of_customer
        return Places(customers, first, after)

    def share_in_top(self, k: int) -> Floats:
        """Chance of each pair to stand among its customer's first k, shape (n,)."""
        inside = np.minimum(self.after, k) - np.minimum(self.first, k)
        shares: Floats = inside / (self.after - self.first)
        return shares

    def discount(self, k: int) -> Floats:
        """Mean discount 1 / log2(place + 1) of each pair's places, 0 beyond place k, shape (n,)."""
        gained = _gained(k)
        inside = gained[np.minimum(self.after, k)] - gained[np.minimum(self.first, k)]
        mean: Floats = inside / (self.after - self.first)
        return mean


def _gained(k: int) -> Floats:
    """gained[i]: sum of the discounts of the first i places."""
    return np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])


def ndcg_by_customer(places: Places, labels: npt.NDArray[np.int8], k: int) -> tuple[Floats, Floats, Floats]:
    """NDCG@k and recall@k of each customer, and their positives; each of shape (n_customers,).

    NDCG with binary gains (Jarvelin & Kekalainen 2002). Recall@k is the share of the customer's purchases that stand
    among the first k. Both are 0 for customers without a positive, whom the mean must leave out.
    """
    count = int(places.customers.max()) + 1
    positives = np.bincount(places.customers, weights=labels, minlength=count).astype(np.float64)
    found = np.bincount(places.customers, weights=labels * places.share_in_top(k), minlength=count)
    gained = np.bincount(places.customers, weights=labels * places.discount(k), minlength=count)
    ideal = _gained(k)[np.minimum(positives, k).astype(np.intp)]
    some = positives > 0
    ndcg = np.divide(gained, ideal, out=np.zeros(count), where=some)
    recall = np.divide(found, positives, out=np.zeros(count), where=some)
    return ndcg, recall, positives
