"""Matrix factorisation as a feature: what ALS must solve, what it may know, and that nothing changes without it."""

from __future__ import annotations

import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from pydantic import ValidationError
from pyspark.sql import functions as sf

from evergreen.errors import FeatureStoreError, LakeError
from evergreen.features import store
from evergreen.features.build import TABLES, plan_build, stage_features
from evergreen.features.factors import TABLES as FACTORS
from evergreen.features.factors import factorise
from evergreen.features.grid import grid
from evergreen.features.materialize import materialize
from evergreen.lake import Lake, Release, latest_release
from evergreen.lake.feature_columns import FACTOR_UNIT
from evergreen.lake.staged_set import StagedSet, publish_set
from evergreen.models.inputs import pinned_features
from evergreen.quality.runner import validate
from evergreen.settings import Settings
from evergreen.settings.features import FactorSettings
from tests.unit.features.histories import FIRST, history, publish_lines

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

DAY = timedelta(days=1)
KEYS = ["customer_id", "product_id"]
SMALL = FactorSettings(enabled=True, rank=3, iterations=2, alpha=4.0, regularisation=0.05, history_days=28)
AS_OF = FIRST + 40 * DAY


@pytest.fixture
def off(settings: Settings) -> Settings:
    """Settings whose grid has one training date, near the newest day."""
    training = settings.training.model_copy(update={"horizon_days": 3, "steps": 1, "min_steps": 1})
    return settings.model_copy(update={"training": training})


def switched_on(settings: Settings, factors: FactorSettings = SMALL) -> Settings:
    return settings.model_copy(update={"features": settings.features.model_copy(update={"factors": factors})})


def at(settings: Settings, name: str) -> Settings:
    """The same settings with a home, and so a lake, of its own."""
    return settings.model_copy(update={"home": settings.home_path / name})


def bought(seed: int = 4, customers: int = 12, products: int = 9) -> pd.DataFrame:
    """Two kinds of customers, each buying its own half of the products; one row a (customer, product, day)."""
    dice = np.random.default_rng(seed)
    rows = [
        (f"c{customer:02}", f"p{product}", AS_OF - timedelta(days=int(age)))
        for customer in range(customers)
        for product in range(products)
        if customer % 2 == product % 2 and dice.random() < 0.7
        for age in dice.choice(np.arange(1, 29), dice.integers(1, 4), replace=False)
    ]
    return pd.DataFrame(rows, columns=["customer_id", "product_id", "event_date"])


def vectors(spark: SparkSession, purchases: pd.DataFrame, factors: FactorSettings = SMALL) -> dict[str, pd.DataFrame]:
    made = factorise(spark.createDataFrame(purchases), AS_OF, factors)
    assert made is not None
    return {table: rows.toPandas().sort_values(FACTORS[table], ignore_index=True) for table, rows in made.items()}


def matrix(rows: pd.DataFrame, table: str) -> npt.NDArray[np.float64]:
    return np.array(rows[table].tolist(), np.float64) / FACTOR_UNIT


def same(one: dict[str, pd.DataFrame], other: dict[str, pd.DataFrame]) -> bool:
    return all(one[table].equals(other[table]) for table in FACTORS)


def test_each_customer_solves_the_normal_equations_of_the_paper(spark: SparkSession) -> None:
    """Hu et al., eq. 4, with Spark's penalty for each of the customer's products; the customers are solved last."""
    purchases = bought()
    made = vectors(spark, purchases)
    customers, products = made["customer_factors"], made["product_factors"]
    assert customers["customer_id"].tolist() == sorted(set(purchases["customer_id"]))
    assert products["product_id"].tolist() == sorted(set(purchases["product_id"]))
    assert set(customers["event_timestamp"]) == {pd.Timestamp(AS_OF)}
    assert set(customers["event_date"]) == {AS_OF - DAY}
    found, others = matrix(customers, "customer_factors"), matrix(products, "product_factors")
    days = purchases.groupby(["customer_id", "product_id"]).size().unstack(fill_value=0).to_numpy(np.float64)
    for customer, counts in enumerate(days):
        surer = SMALL.alpha * counts
        penalty = SMALL.regularisation * (counts > 0).sum() * np.eye(SMALL.rank)
        left = others.T @ others + (others * surer[:, None]).T @ others + penalty
        right = others.T @ ((1 + surer) * (counts > 0))
        np.testing.assert_allclose(found[customer], np.linalg.solve(left, right), atol=20 / FACTOR_UNIT)
        wrong = np.linalg.solve(left + np.eye(SMALL.rank), right)  # the control: another penalty
        assert not np.allclose(found[customer], wrong, atol=20 / FACTOR_UNIT)
    scores, bought_any = found @ others.T, days > 0
    own_half = np.arange(len(days))[:, None] % 2 == np.arange(days.shape[1]) % 2
    assert scores[own_half & ~bought_any].mean() > scores[~own_half].mean() + 0.2


def test_purchases_at_or_after_as_of_and_before_the_history_change_nothing(spark: SparkSession) -> None:
    purchases = bought()
    plain = vectors(spark, purchases)
    shuffled = purchases.sample(frac=1.0, random_state=1)
    foreign = [("c00", "p1", AS_OF), ("new", "p0", AS_OF + DAY), ("c01", "p0", AS_OF - 29 * DAY)]
    planted = pd.DataFrame(foreign, columns=list(purchases))
    assert same(plain, vectors(spark, pd.concat([planted, shuffled])))
    control = planted.assign(event_date=AS_OF - DAY)
    assert not same(plain, vectors(spark, pd.concat([planted, shuffled, control])))


def test_no_purchases_give_no_vectors(spark: SparkSession) -> None:
    assert factorise(spark.createDataFrame(bought()), AS_OF - 60 * DAY, SMALL) is None


def build(spark: SparkSession, settings: Settings, day: date) -> Release:
    publish_set(Lake(settings.lake_path), stage_features(spark, settings, day))
    released = latest_release(Lake(settings.lake_path), "features")
    assert released is not None
    return released


def counted(purchases: DataFrame, as_of: date, factors: FactorSettings) -> dict[str, DataFrame]:
    """Stands in for ALS, which takes seconds: vectors of as many numbers, all counts of purchases before `as_of`."""
    before = purchases.where(sf.col("event_date") < sf.lit(as_of))
    return {
        table: before.groupBy(key).agg(sf.array(*[sf.count("*")] * factors.rank).alias(table)).select(
            key,
            sf.lit(as_of).cast("timestamp").alias("event_timestamp"),
            table,
            sf.lit(as_of - DAY).alias("event_date"),
        )
        for table, key in FACTORS.items()
    }  # fmt: skip


def test_a_build_with_factors_adds_two_tables_and_changes_no_other(
    spark: SparkSession, off: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The switch off, on, and with other parameters."""
    monkeypatch.setattr("evergreen.features.factors.factorise", counted)
    last, lake = FIRST + 29 * DAY, Lake(off.lake_path)
    publish_lines(lake, history(seed=21, days=30, a_day=6), last)
    plain = build(spark, off, last)
    assert set(plain.versions) == set(TABLES)
    assert set(plain.inputs) == {"transactions", "transform"}
    assert not any((lake.root / table).exists() for table in FACTORS)

    on = switched_on(off)
    with pytest.raises(FeatureStoreError, match="no table customer_factors: it was made before"):
        store.check_factors(on, plain.versions)
    store.check_factors(off, plain.versions)
    wanted = tuple(as_of - DAY for as_of in grid(last, on.training).dates)
    plan = plan_build(on, last)
    assert (plan.changed_from, plan.snapshots, plan.factors) == (None, (), wanted)
    staged = stage_features(spark, on, last)
    broken = {name: failed(staged, settings) for name, settings in (("on", on), ("off", off), ("rank", rank(on, 4)))}
    assert broken == {"on": [], "off": [], "rank": ["customer_factors.vectors", "product_factors.vectors"]}
    publish_set(lake, staged)
    with_factors = latest_release(lake, "features")
    assert with_factors is not None
    assert {name: with_factors.versions[name] for name in TABLES} == plain.versions
    assert set(with_factors.versions) == {*TABLES, *FACTORS}
    assert plan_build(on, last).nothing
    assert plan_build(off, last).nothing

    earlier = last - 4 * DAY
    build(spark, on, earlier)
    other = rank(on, 2)
    plan = plan_build(other, last)
    assert plan.factors == wanted
    assert set(plan.forgotten) == {as_of - DAY for as_of in grid(earlier, on.training).dates} - set(wanted)
    build(spark, other, last)
    assert tuple(lake.table("product_factors").days()) == wanted
    assert {len(vector) for vector in lake.table("product_factors").read()["product_factors"].to_pylist()} == {2}
    as_of = plan.forgotten[0] + DAY
    with pytest.raises(LakeError, match=f"customer_factors has no snapshot as of {as_of}"):
        pinned_features(lake, last, [as_of])


def rank(settings: Settings, number: int) -> Settings:
    return switched_on(settings, SMALL.model_copy(update={"rank": number}))


def failed(staged: StagedSet, settings: Settings) -> list[str]:
    """Expectations on factors that do not hold."""
    report = validate("features", staged, settings)
    return [result.check.key for result in report.failed if "factors" in result.check.key]


@pytest.mark.slow
def test_days_built_one_by_one_have_the_bytes_of_a_bulk_load(spark: SparkSession, off: Settings) -> None:
    on = switched_on(off)
    lines, last = history(seed=24, days=30, a_day=6), FIRST + 29 * DAY
    daily, bulk = at(on, "daily"), at(on, "bulk")
    for day, first in ((last - 2 * DAY, FIRST), (last, last - DAY)):
        publish_lines(Lake(daily.lake_path), lines, day, first=first)
        build(spark, daily, day)
    publish_lines(Lake(bulk.lake_path), lines, last)
    build(spark, bulk, last)
    for table in FACTORS:
        once, stepwise = (Lake(home.lake_path).table(table).digests for home in (bulk, daily))
        assert len(once) == len(grid(last, on.training).dates)
        assert once.items() < stepwise.items()


def test_feast_gives_the_product_offline_and_online(
    spark: SparkSession, off: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evergreen.features.factors.factorise", counted)
    on, last = switched_on(off), FIRST + 20 * DAY
    lake = Lake(on.lake_path)
    publish_lines(lake, history(seed=23, days=21, a_day=6), last)
    released = build(spark, on, last)
    made = materialize(on, released)
    assert made["rows"]["customer_factors_state"] == lake.table("customer_factors").read(last, last).num_rows > 0
    vector = {
        key: dict(zip(rows[key].to_pylist(), rows[table].to_pylist(), strict=True))
        for table, key in FACTORS.items()
        for rows in [lake.table(table).read(last, last)]
    }
    pairs = pd.DataFrame([(c, p) for c in vector["customer_id"] for p in [*vector["product_id"], "none"]], columns=KEYS)
    expected = [
        float(np.dot(vector["customer_id"][c], vector["product_id"][p])) / FACTOR_UNIT**2 if p != "none" else np.nan
        for c, p in pairs.itertuples(index=False)
    ]
    offline = store.historical_features(on, released.versions, pairs.assign(as_of=last + DAY))
    assert offline.columns[-1] == "pair_affinity"
    np.testing.assert_array_equal(offline["pair_affinity"], expected)
    online = store.online_features(on, pairs, last + DAY)
    np.testing.assert_array_equal(online["pair_affinity"].astype(float), expected)

    assert store.apply(off), "switched off, the definitions are those of before"
    names = {service.name for service in store.feature_store(off).list_feature_services()}
    assert names == {"buy_again_v1", "profile_v1"}
    without = store.historical_features(off, released.versions, pairs.assign(as_of=last + DAY))
    pd.testing.assert_frame_equal(without, offline.drop(columns="pair_affinity"))


def test_definitions_are_those_of_before_while_it_is_off(
    off: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = {on.features.factors.enabled: store.definitions_digest(on) for on in (off, switched_on(off))}
    assert digests[True] != digests[False]
    shutil.copytree(store.REPO, tmp_path / "before", ignore=shutil.ignore_patterns("factors.py", "__pycache__"))
    monkeypatch.setattr(store, "REPO", tmp_path / "before")
    assert store.definitions_digest(off) == digests[False]
    assert store.definitions_digest(switched_on(off)) != digests[True]


@pytest.mark.parametrize(
    "wrong", [{"rank": 0}, {"rank": 129}, {"alpha": 0}, {"regularisation": 0}, {"history_days": 7}]
)
def test_ranges_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        FactorSettings(**wrong)  # type: ignore[arg-type]
