"""What a product's description says: its category by keywords, and hashed word counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pyspark.sql import Column
from pyspark.sql import functions as sf

from evergreen.lake.feature_columns import TEXT_BUCKETS

OTHER = "other"


def category(description: Column, categories: Mapping[str, Sequence[str]]) -> Column:
    """The category of the last known word of a description, `other` where there is none.

    Args:
        description: text column, may be null.
        categories: words (upper case) of each category; a word stands in one category only.
    """
    owner = [(word, name) for name, words in categories.items() for word in words]
    if not owner:
        return sf.lit(OTHER)
    words = "|".join(sorted((word.replace("-", "\\-") for word, _ in owner), key=len, reverse=True))
    # Greedy up to the last match: the head noun stands last.
    found = sf.regexp_extract(sf.upper(description), rf"^.*(?<![A-Z0-9-])({words})(?![A-Z0-9-])", 1)
    names = sf.create_map(*(sf.lit(text) for pair in owner for text in pair))
    return sf.coalesce(sf.try_element_at(names, found), sf.lit(OTHER))


def text_counts(description: Column) -> list[Column]:
    """How many words and word pairs of a description fall into each hash bucket (CRC-32 modulo `TEXT_BUCKETS`)."""
    split = sf.split(sf.upper(sf.coalesce(description, sf.lit(""))), "[^A-Z0-9]+")
    words = sf.filter(split, lambda word: word != "")
    pairs = sf.zip_with(words, sf.slice(words, 2, 1000), lambda a, b: sf.concat_ws(" ", a, b))
    grams = sf.concat(words, sf.slice(pairs, 1, sf.greatest(sf.size(words) - 1, sf.lit(0))))
    buckets = sf.transform(grams, lambda gram: sf.crc32(gram) % TEXT_BUCKETS)
    return [sf.size(sf.filter(buckets, _equals(index))).cast("bigint") for index in range(TEXT_BUCKETS)]


def _equals(index: int) -> Callable[[Column], Column]:
    return lambda bucket: bucket == index
