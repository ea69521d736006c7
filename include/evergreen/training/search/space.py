"""Which values a search may try: the settings' ranges, checked against those of the model."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from evergreen.errors import TrainingError
from evergreen.models.candidate import candidate_class
from evergreen.models.params import Number, Ranges, Text, Value, resolve
from evergreen.settings.search import RangeSettings, SearchSettings, Space, Strategy

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

SECTION = "settings.training.search"
LARGEST_GRID = 100_000


class SearchSpace:
    """The parameters of a model that are searched, with their ranges.

    Raises:
        TrainingError: a parameter is unknown, a value lies outside the model's range, the model's default is not among
            the values, or the strategy is `grid` and a parameter has no finite list; names the setting.
    """

    def __init__(self, model: str, search: SearchSettings) -> None:
        self.model = model
        self.ranges: Ranges = candidate_class(model).ranges
        self.space: Space = search.space_of(model)
        self.fixed = dict(search.fixed.get(model, {}))
        try:
            self.defaults = resolve(model, {}, self.ranges)
            resolve(model, self.fixed, self.ranges)
        except TrainingError as error:
            raise TrainingError(f"{SECTION}.fixed.{model}: {error}") from None
        if not self.space:
            raise TrainingError(
                f"{SECTION}.spaces.{model} is not set, must name at least one of: {', '.join(sorted(self.ranges))}"
            )
        for name, given in self.space.items():
            where = f"{SECTION}.spaces.{model}.{name}"
            if name not in self.ranges:
                close = difflib.get_close_matches(name, self.ranges, n=1, cutoff=0.0)
                raise TrainingError(f"{where} is not known; the nearest known one is {close[0]}")
            if name in self.fixed:
                raise TrainingError(f"{where} is also in {SECTION}.fixed.{model}, must be in one of them")
            self._check(where, name, given)
            if search.strategy is Strategy.GRID and self._listed(name) is None:
                raise TrainingError(f"{where} has no finite list of values, which a grid needs: give choices or a step")
        if search.strategy is Strategy.GRID and self.grid_size() > LARGEST_GRID:
            raise TrainingError(
                f"{SECTION}.spaces.{model} gives a grid of {self.grid_size():,} combinations, must be at most "
                f"{LARGEST_GRID:,}: give larger steps, or another strategy"
            )

    def start(self) -> dict[str, Value]:
        """The model's own defaults of what is searched: the first trial, which the best must beat."""
        return {name: self.defaults[name] for name in self.space}

    def params(self, tried: Mapping[str, Value]) -> dict[str, Value]:
        """All parameters of a trial.

        Raises:
            TrainingError: a value is out of the model's range.
        """
        return resolve(self.model, {**self.fixed, **tried}, self.ranges)

    def holding(self, params: Mapping[str, Value]) -> dict[str, Value]:
        """Those of the parameters that are searched here with a value that may be tried."""
        return {name: params[name] for name in self.space if name in params and self._holds(name, params[name])}

    def distributions(self) -> dict[str, BaseDistribution]:
        """The space in Optuna's words."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        found: dict[str, BaseDistribution] = {}
        for name, given in self.space.items():
            if given.choices:
                found[name] = CategoricalDistribution([self.ranges[name].check(one) for one in given.choices])
                continue
            low, high = _ends(given)
            if _whole(self.ranges[name]):
                found[name] = IntDistribution(int(low), int(high), log=given.log, step=int(given.step or 1))
            else:
                found[name] = FloatDistribution(low, high, log=given.log, step=given.step)
        return found

    def grid(self, seed: int) -> Iterator[dict[str, Value]]:
        """Every combination once, shuffled by the seed: a budget that ends early has seen all corners."""
        lists = [self._listed(name) or [] for name in self.space]
        sizes = [len(values) for values in lists]
        for place in np.random.default_rng(seed).permutation(math.prod(sizes)):
            at = np.unravel_index(place, sizes)
            yield {name: values[int(one)] for name, values, one in zip(self.space, lists, at, strict=True)}

    def grid_size(self) -> int:
        """Combinations of a grid."""
        return math.prod(len(self._listed(name) or []) for name in self.space)

    def to_json(self) -> dict[str, Any]:
        """The space as a document: what decides a search."""
        return {name: given.model_dump(mode="json") for name, given in self.space.items()}

    def _check(self, where: str, name: str, given: RangeSettings) -> None:
        allowed = self.ranges[name]
        if isinstance(allowed, Text) and not given.choices:
            raise TrainingError(f"{where} has low and high, must have choices: {name} is a text")
        ends = {"low": given.low, "high": given.high}
        values: list[tuple[str, Any]] = [("a choice", one) for one in given.choices] or list(ends.items())
        for what, value in values:
            try:
                allowed.check(value)
            except ValueError as error:
                raise TrainingError(f"{where}: {what} is {value!r}, {error}") from None
        if given.step and _whole(allowed) and given.step != int(given.step):
            raise TrainingError(f"{where}: step is {given.step:g}, must be whole as {name} is")
        if not self._holds(name, self.defaults[name]):
            raise TrainingError(
                f"{where} is without the model's default {self.defaults[name]!r}, which is the first trial: add it"
            )

    def _holds(self, name: str, value: Value) -> bool:
        given = self.space[name]
        try:
            value = self.ranges[name].check(value)
        except ValueError:
            return False
        if given.choices:
            return value in [self.ranges[name].check(one) for one in given.choices]
        low, high = _ends(given)
        if isinstance(value, str) or not low <= value <= high:
            return False
        steps = (value - low) / given.step if given.step else 0.0
        return abs(steps - round(steps)) < 1e-6

    def _listed(self, name: str) -> list[Value] | None:
        given, allowed = self.space[name], self.ranges[name]
        if given.choices:
            return [allowed.check(one) for one in given.choices]
        step = given.step or (1.0 if _whole(allowed) and not given.log else None)
        if step is None:
            return None
        low, high = _ends(given)
        return [allowed.check(round(low + place * step, 12)) for place in range(round((high - low) / step) + 1)]


def _whole(allowed: Number | Text) -> bool:
    return isinstance(allowed, Number) and allowed.whole


def _ends(given: RangeSettings) -> tuple[float, float]:
    """Smallest and largest value: with a step the last one that it reaches."""
    assert given.low is not None  # the settings checked it
    assert given.high is not None
    if not given.step:
        return given.low, given.high
    return given.low, given.low + math.floor((given.high - given.low) / given.step + 1e-9) * given.step
