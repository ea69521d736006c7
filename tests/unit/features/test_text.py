"""Categories and hashed words of descriptions."""

from __future__ import annotations

import itertools
import re
import zlib
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError
from pyspark.sql import functions as sf

from evergreen.features.text import category, with_text_counts
from evergreen.settings.features import FeaturesSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DESCRIPTIONS = {
    "JUMBO BAG RED RETROSPOT": "bags",
    "PACK OF 72 RETROSPOT CAKE CASES": "bags",
    "white hanging heart t-light holder": "candles",
    "REGENCY CAKESTAND 3 TIER": "kitchen",
    "BAGS OF JOY": "bags",
    "HANDBAGGAGE": "other",
    "?": "other",
    "": "other",
    None: "other",
}


def test_the_last_known_word_decides(spark: SparkSession) -> None:
    rows = spark.createDataFrame([(text,) for text in DESCRIPTIONS], "description string").coalesce(1)
    categories = FeaturesSettings().categories
    found = (
        with_text_counts(rows, "description", "b")
        .select(
            "*",
            category(sf.col("description"), categories).alias("category"),
            category(sf.col("description"), {}).alias("none"),
        )
        .collect()
    )
    assert {row["description"]: row["category"] for row in found} == DESCRIPTIONS
    assert {row["none"] for row in found} == {"other"}
    for row in found:
        words = [word for word in re.split("[^A-Z0-9]+", (row["description"] or "").upper()) if word]
        grams = words + [f"{a} {b}" for a, b in itertools.pairwise(words)]
        buckets = Counter(zlib.crc32(gram.encode()) % 8 for gram in grams)
        assert [row[f"b{i}"] for i in range(8)] == [buckets[i] for i in range(8)]


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ({"a": ("BAG",), "b": ("BAG",)}, "stands in the categories 'a' and 'b'"),
        ({"a": ("bag",)}, "must be upper-case"),
        ({"other": ("BAG",)}, "takes no words"),
    ],
)
def test_categories_that_cannot_be_are_refused(categories: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FeaturesSettings(categories=categories)


def test_other_is_the_last_category() -> None:
    assert FeaturesSettings(categories={"a": ("BAG",)}).category_names == ("a", "other")
