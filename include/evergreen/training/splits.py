"""Customers are split by a salted hash: the same customer stands on the same side in every training set."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from evergreen.settings.training import TrainingSettings


class Split(StrEnum):
    """What a customer's pairs are used for."""

    TRAIN = "train"
    EARLY_STOPPING = "early_stopping"  # and calibration
    SELECTION = "selection"  # the choice among candidates


def split_customers(customer_ids: npt.NDArray[Any], training: TrainingSettings) -> npt.NDArray[np.object_]:
    """The split of each row's customer, object[rows] of `Split` values.

    SHA-256 of salt and identifier: the same in every process and on every machine, unlike Python's own hash.
    """
    identifiers = np.asarray(customer_ids, object).tolist()
    sides = {one: _side(share_of(training.salt, str(one)), training).value for one in set(identifiers)}
    return np.array([sides[one] for one in identifiers], object)


def _side(share: float, training: TrainingSettings) -> Split:
    if share < training.early_stopping_share:
        return Split.EARLY_STOPPING
    if share < training.early_stopping_share + training.selection_share:
        return Split.SELECTION
    return Split.TRAIN


def share_of(salt: str, identifier: str) -> float:
    """A number in [0, 1), uniform over identifiers and independent of those that other salts give."""
    digest = hashlib.sha256(f"{salt}\0{identifier}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
