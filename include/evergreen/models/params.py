"""Ranges of hyperparameters: what a model may be asked for, checked before anything is trained."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass

from evergreen.errors import TrainingError

Value = float | int | str | bool


@dataclass(frozen=True)
class Number:
    """A number from `low` to `high`, both allowed. Whole where `whole`; `quiet` as in `stated`."""

    default: float
    low: float
    high: float
    whole: bool = False
    quiet: bool = False

    def check(self, value: Value) -> Value:
        """The value in its own type. Raises ValueError with what is allowed."""
        kind = "a whole number" if self.whole else "a number"
        allowed = f"must be {kind} from {self.low:g} to {self.high:g}"
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(allowed)
        if not self.low <= value <= self.high or (self.whole and value != int(value)):
            raise ValueError(allowed)
        return int(value) if self.whole else float(value)


@dataclass(frozen=True)
class Text:
    """Any text that is not empty, for names that only the training set can confirm; `quiet` as in `stated`."""

    default: str
    quiet: bool = False

    def check(self, value: Value) -> Value:
        """The text. Raises ValueError with what is allowed."""
        if not isinstance(value, str) or not value:
            raise ValueError("must be a text that is not empty")
        return value


Ranges = Mapping[str, Number | Text]


def resolve(model: str, given: Mapping[str, Value], ranges: Ranges) -> dict[str, Value]:
    """All parameters of a model: the given ones, checked, and the defaults of the others, sorted by name.

    Raises:
        TrainingError: naming the parameter that is unknown or out of range, and what is allowed.
    """
    for name, value in given.items():
        if name not in ranges:
            close = difflib.get_close_matches(name, ranges, n=1, cutoff=0.0)
            hint = f"the nearest known one is {close[0]}" if close else "it has none"
            raise TrainingError(f"parameter {name} of model {model} is not known; {hint}")
        try:
            ranges[name].check(value)
        except ValueError as error:
            raise TrainingError(f"parameter {name} of model {model} is {value!r}, {error}") from None
    return {name: ranges[name].check(given.get(name, ranges[name].default)) for name in sorted(ranges)}


def stated(params: Mapping[str, Value], ranges: Ranges) -> dict[str, Value]:
    """The parameters that a digest or a manifest names: all but quiet ones at their default.

    A quiet one came later: where it stands at its default, a spec or a bundle of before keeps its digest.
    """
    return {name: value for name, value in params.items() if not (ranges[name].quiet and value == ranges[name].default)}
