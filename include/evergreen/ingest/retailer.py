"""The sample retailer: a random world whose every purchase has a known probability.

A customer visits on a day with a probability that only their rate, the weekday and the season decide. On a visit each
product of their taste is bought with a probability that depends on the days since they last bought it against the
pair's own usual gap, on the season of its category, its price and whether it is on sale. Until the next purchase the
days since the last one just count up: so the chance of none in a window is a plain product over its days, and `chances`
is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from evergreen.ingest.words import CATEGORIES, COLOURS, COUNTRIES, STYLES
from evergreen.settings.sample import SampleSettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

BURN_IN_DAYS = 150  # lived through before the first day, so that customers know products when the data begin
NEVER = -1_000_000  # "last bought" of a pair that was not bought yet
LINES_PER_CUSTOMER_DAY = 0.152  # of a customer who is there, on a usual trading day; measured with 500,000 lines
ANONYMOUS_SHARE = 0.2
MAX_BLOCK = 8192

# Streams of random numbers, one for each purpose: what one of them needs more of never shifts another.
_CATALOGUE, _PRICES, _CUSTOMERS, _SHOPPING = range(4)


@dataclass(frozen=True)
class Catalogue:
    """All products, those included that are not on sale yet."""

    codes: NDArray[np.object_]
    descriptions: NDArray[np.object_]
    category: Ints
    price: Floats  # on the first day, major units
    demand: Floats  # within all products
    pack: Ints  # usual quantity
    launch: Ints  # first day on sale, days since `first_day`
    end: Ints  # first day no longer on sale


@dataclass(frozen=True)
class Block:
    """Some customers and their (customer, product) pairs. Pairs lie customer by customer."""

    index: int
    customers: Ints  # numbers, unique over all blocks
    arrival: Ints  # day on which they become customers
    visit_rate: Floats  # visits on a usual trading day
    churn: Floats  # chance a day to leave for good
    size: Floats  # how much they buy at once
    country: Ints
    first_pair: Ints  # of each customer, and one behind the last
    owner: Ints  # position of the pair's customer in this block
    product: Ints
    gap: Floats  # usual days between purchases
    peak: Floats  # chance at a visit when the gap is over
    curiosity: Floats  # chance at a visit to try it for the first time


@dataclass(frozen=True)
class Shopping:
    """What a block's customers bought, by day, customer and product, and where they stood at the end."""

    day: Ints
    pair: Ints
    last: Ints  # of each pair: day of its last purchase
    alive: Flags  # of each customer


class Retailer:
    """The world of one `settings.sample`. Days count from `first_day`; later days never change earlier ones."""

    def __init__(self, settings: SampleSettings) -> None:
        self.settings = settings
        self.days = (settings.day - settings.first_day).days + 1
        trading = self.calendar(np.arange(self.days)).sum()
        size = np.log(settings.lines / 500_000)
        # tastes overlap less in a larger catalogue; in a small one, a few customers soon own what they like
        usual = LINES_PER_CUSTOMER_DAY * np.exp(0.0855 * size - 0.0147 * min(size, 0.0) ** 2)
        present = settings.lines * (1 - ANONYMOUS_SHARE) / (usual * trading)
        self.present = max(20, round(present))  # customers at a time
        self.arrivals_a_day = self.present * 0.0012
        self.block_size = int(np.clip(2 ** np.ceil(np.log2(self.present / 2)), 64, MAX_BLOCK))

    def stream(self, *purpose: int) -> np.random.Generator:
        """Random numbers of one purpose."""
        return np.random.default_rng([self.settings.seed, *purpose])

    def date_of(self, day: int) -> date:
        """The date of a day number."""
        return self.settings.first_day + timedelta(days=int(day))

    def blocks(self, until: int) -> int:
        """How many blocks hold the customers who arrive before day `until`."""
        customers = self.present + int(self.arrivals_a_day * (until + BURN_IN_DAYS)) + 1
        return int(-(-customers // self.block_size))

    def calendar(self, days: Ints) -> Floats:
        """How busy each day is, a usual weekday being 1: no Saturdays, closed over Christmas, busy before it."""
        dates = np.datetime64(self.settings.first_day, "D") + days
        weekday = (dates.astype(np.int64) + 3) % 7
        busy = np.array([1.0, 1.05, 1.05, 1.15, 0.9, 0.0, 0.7])[weekday]
        in_year = (dates - dates.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64)
        closed = ((in_year >= 358) & (in_year <= 361)) | (in_year == 0)
        return np.where(closed, 0.0, busy * (1 + 0.55 * _bump(in_year, 315, 45)))

    def season(self, days: Ints) -> Floats:
        """How much each category is wanted on each day: days x categories."""
        dates = np.datetime64(self.settings.first_day, "D") + days
        in_year = (dates - dates.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64)
        before_christmas = _bump(in_year, 320, 40)[:, None]
        strength = np.array([seasonal for _, _, seasonal, _ in CATEGORIES.values()])
        usual = np.where(strength > 2, 0.15, 1.0)  # what is only for Christmas is hardly bought in spring
        wanted: Floats = usual * (1 + np.where(strength > 2, 12.0, strength) * before_christmas)
        return wanted

    @cached_property
    def catalogue(self) -> Catalogue:
        """The products: more of them for more lines, a quarter launched while the data run."""
        number = int(3000 * (self.settings.lines / 500_000) ** 0.45)
        random = self.stream(_CATALOGUE)
        names = list(CATEGORIES)
        shares = np.array([share for *_, share in CATEGORIES.values()], float)
        category = random.choice(len(names), size=number, p=shares / shares.sum())
        usual = np.array([price for _, price, _, _ in CATEGORIES.values()])
        price = np.maximum(0.12, np.round(usual[category] * random.lognormal(0, 0.55, number), 2))
        horizon = self.days + 366
        new = random.random(number) < 0.25
        launch = np.where(new, random.integers(0, horizon, number), NEVER)
        ends = random.random(number) < 0.15
        end = np.where(ends, np.maximum(launch, 0) + random.integers(60, horizon, number), -NEVER)
        return Catalogue(
            codes=_codes(number),
            descriptions=_descriptions(category, random),
            category=category.astype(np.int64),
            price=price,
            demand=random.lognormal(0, 1.1, number) * (price / usual[category]) ** -0.4,
            pack=random.choice([1, 2, 4, 6, 12, 24], size=number, p=[0.2, 0.15, 0.15, 0.2, 0.2, 0.1]),
            launch=launch,
            end=end,
        )

    @cached_property
    def _price_levels(self) -> list[Floats]:
        return [np.ones(len(self.catalogue.price))]

    def price_level(self, day: int) -> Floats:
        """Each product's price against its first one; some change with each month."""
        first = self.settings.first_day
        on = self.date_of(max(day, 0))
        month = (on.year - first.year) * 12 + on.month - first.month
        while len(self._price_levels) <= month:
            random = self.stream(_PRICES, len(self._price_levels))
            before = self._price_levels[-1]
            change = np.where(random.random(len(before)) < 0.08, random.normal(0.02, 0.12, len(before)), 0.0)
            self._price_levels.append(np.clip(before * (1 + change), 0.6, 1.8))
        return self._price_levels[month]

    def prices(self, day: int) -> Floats:
        """Each product's price on a day, major units."""
        return np.maximum(0.1, np.round(self.catalogue.price * self.price_level(day), 2))

    def appeal(self, day: int) -> Floats:
        """How much each product is wanted on a day for its season and price; 0 where it is not on sale."""
        catalogue = self.catalogue
        on_sale = (catalogue.launch <= day) & (day < catalogue.end)
        wanted: Floats = on_sale * self.season(np.array([day]))[0][catalogue.category] * self.price_level(day) ** -1.5
        return wanted

    def block(self, index: int) -> Block:
        """Some customers with their tastes. Always whole, whoever of them has arrived."""
        random = self.stream(_CUSTOMERS, index)
        size = self.block_size
        customers = index * size + np.arange(size)
        late = np.maximum(customers - self.present, 0) / self.arrivals_a_day
        arrival = np.where(customers < self.present, -BURN_IN_DAYS, late.astype(np.int64) - BURN_IN_DAYS)
        visit_rate = np.minimum(0.4, 0.011 * random.lognormal(0, 0.85, size))
        churn = 0.0012 * random.lognormal(0, 0.5, size) * (0.011 / visit_rate) ** 0.5
        loyalty = random.beta(2, 3, size)
        country = random.choice(len(COUNTRIES), size=size, p=_shares([share for _, share in COUNTRIES]))
        owner, product = self._tastes(random, visit_rate)
        pairs = len(owner)
        staple = random.random(pairs) < 0.1 + 0.4 * loyalty[owner]
        between_visits = 1 / visit_rate[owner]
        gap = np.clip(np.maximum(between_visits, 20) * random.lognormal(0.7, 0.6, pairs), 14, 400)
        peak = np.where(staple, random.beta(2, 4, pairs), random.beta(1, 12, pairs))
        return Block(
            index=index,
            customers=customers,
            arrival=arrival,
            visit_rate=visit_rate,
            churn=np.minimum(churn, 0.02),
            size=random.lognormal(0, 0.6, size),
            country=country.astype(np.int64),
            first_pair=np.searchsorted(owner, np.arange(size + 1)).astype(np.int64),
            owner=owner,
            product=product,
            gap=gap,
            peak=peak,
            curiosity=np.minimum(0.25, random.lognormal(np.log(0.05), 0.7, pairs)),
        )

    def _tastes(self, random: np.random.Generator, visit_rate: Floats) -> tuple[Ints, Ints]:
        """Pairs of customer and product: categories by affinity, products by demand within the category."""
        catalogue = self.catalogue
        order = np.argsort(catalogue.category, kind="stable")
        demand = np.cumsum(catalogue.demand[order])
        edges = np.searchsorted(catalogue.category[order], np.arange(len(CATEGORIES) + 1))
        below = np.concatenate([[0.0], demand])[edges]
        share = np.array([share for *_, share in CATEGORIES.values()], float)
        affinity = random.gamma(0.35 * share / share.mean(), 1.0, (len(visit_rate), len(CATEGORIES))) + 1e-9
        affinity[:, np.diff(below) == 0] = 0
        wide = np.clip((60 + 6500 * visit_rate), 60, 700).astype(np.int64)
        owner = np.repeat(np.arange(len(visit_rate)), wide)
        cumulative = np.cumsum(affinity, axis=1)
        cumulative /= cumulative[:, -1:]
        category = (random.random(len(owner))[:, None] > cumulative[owner]).sum(axis=1)
        wanted = below[category] + random.random(len(owner)) * (below[category + 1] - below[category])
        product = order[np.minimum(np.searchsorted(demand, wanted, side="right"), len(order) - 1)]
        unique = np.unique(owner * len(order) + product)
        return (unique // len(order)).astype(np.int64), (unique % len(order)).astype(np.int64)

    def shop(self, block: Block, until: int) -> Shopping:
        """Lives through the days before `until`."""
        random = self.stream(_SHOPPING, block.index)
        last = np.full(len(block.owner), NEVER)
        alive = np.ones(len(block.customers), bool)
        days: list[Ints] = []
        pairs: list[Ints] = []
        busy = self.calendar(np.arange(-BURN_IN_DAYS, until))
        for day in range(-BURN_IN_DAYS, until):
            leaving = random.random(len(alive)) < block.churn
            alive &= ~(leaving & (block.arrival <= day))
            visiting = random.random(len(alive)) < self._visits(block, day, busy[day + BURN_IN_DAYS])
            considered = _ranges(block.first_pair, np.flatnonzero(visiting & alive))
            if not len(considered):
                continue
            chance = self._chance_at_visit(block, considered, day, last[considered], self.appeal(day))
            bought = considered[random.random(len(considered)) < chance]
            last[bought] = day
            if day >= 0:
                days.append(np.full(len(bought), day))
                pairs.append(bought)
        none = np.zeros(0, np.int64)
        return Shopping(np.concatenate([none, *days]), np.concatenate([none, *pairs]), last, alive)

    def chances(self, block: Block, shopping: Shopping, as_of: int, horizon_days: int) -> Floats:
        """The probability of each pair to be bought at least once in the days `as_of` to `as_of + horizon_days - 1`.

        Exact, given the state at the end of the day before: who is still a customer and when each pair was last bought.
        """
        present = shopping.alive[block.owner].astype(float)  # probability of: still here, not bought yet
        chance = np.zeros(len(block.owner))
        everything = np.arange(len(block.owner))
        for day in range(as_of, as_of + horizon_days):
            arrived = (block.arrival <= day)[block.owner]
            present *= np.where(arrived, 1 - block.churn[block.owner], 1.0)
            visit = self._visits(block, day, float(self.calendar(np.array([day]))[0]))[block.owner]
            buys = visit * self._chance_at_visit(block, everything, day, shopping.last, self.appeal(day))
            chance += present * buys
            present *= 1 - buys
        return chance

    def _visits(self, block: Block, day: int, busy: float) -> Floats:
        """Each customer's probability of a visit on a day, while they are customers."""
        return np.where(block.arrival <= day, np.minimum(0.9, block.visit_rate * busy), 0.0)

    @staticmethod
    def _chance_at_visit(block: Block, pairs: Ints, day: int, last: Ints, appeal: Floats) -> Floats:
        """Each pair's probability of a purchase at a visit."""
        elapsed = (day - last) / block.gap[pairs]  # in usual gaps
        due = 1 / (1 + np.exp(np.clip(-5 * (elapsed - 0.7), -50, 50)))
        remembered = np.exp(-0.5 * np.clip(elapsed - 1.8, 0, 50))
        again = block.peak[pairs] * due * remembered
        base = np.where(last == NEVER, block.curiosity[pairs], again)
        return np.minimum(0.95, base * appeal[block.product[pairs]])


def _bump(in_year: Ints, centre: int, width: int) -> Floats:
    return np.exp(-0.5 * ((in_year - centre) / (width / 2)) ** 2)


def _shares(weights: list[float]) -> Floats:
    return np.array(weights) / sum(weights)


def _ranges(edges: Ints, chosen: Ints) -> Ints:
    """The numbers `edges[c]` to `edges[c + 1] - 1` of each chosen c, one after another."""
    lengths = edges[chosen + 1] - edges[chosen]
    starts = np.repeat(edges[chosen] - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    return starts + np.arange(lengths.sum())


def _codes(number: int) -> NDArray[np.object_]:
    """Stock codes: five digits, every fourth with a letter for its variant."""
    return np.array(
        [f"{20000 + index}{'ABCDE'[index % 5] if index % 4 == 3 else ''}" for index in range(number)], object
    )


def _descriptions(category: Ints, random: np.random.Generator) -> NDArray[np.object_]:
    nouns = [entry[0] for entry in CATEGORIES.values()]
    picks = random.random((len(category), 4))
    made = []
    for index, which in enumerate(category):
        style = STYLES[int(picks[index, 0] * len(STYLES))]
        noun = nouns[which][int(picks[index, 1] * len(nouns[which]))]
        colour = COLOURS[int(picks[index, 2] * len(COLOURS))]
        made.append(f"{colour} {style} {noun}" if picks[index, 3] < 0.6 else f"{noun} {style} {colour}")
    return np.array(made, object)
