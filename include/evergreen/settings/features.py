"""Settings of feature jobs and the feature store."""

from __future__ import annotations

import re
from typing import Self

from pydantic import Field, model_validator

from evergreen.settings.base import Section

_CATEGORIES: dict[str, tuple[str, ...]] = {
    "bags": ("BAG", "BAGS", "SHOPPER", "RUCKSACK", "PURSE", "SATCHEL", "CASE", "CASES"),
    "candles": ("CANDLE", "CANDLES", "LANTERN", "LANTERNS", "T-LIGHT", "HOLDER", "HOLDERS", "LIGHT", "LIGHTS", "LAMP"),
    "christmas": ("CHRISTMAS", "XMAS", "ADVENT", "BAUBLE", "SANTA", "REINDEER", "SNOWFLAKE", "STOCKING"),
    "clocks_signs": ("CLOCK", "SIGN", "SIGNS", "BLACKBOARD", "CHALKBOARD", "HOOK", "HOOKS", "HANGER", "DOORMAT"),
    "garden": ("GARDEN", "PLANT", "PLANTER", "HERB", "WATERING", "PICNIC", "PARASOL", "BIRD", "SEEDS"),
    "jewellery": ("NECKLACE", "BRACELET", "EARRINGS", "RING", "BROOCH", "BANGLE", "KEYRING", "KEY-RING", "HAIR"),
    "kitchen": (
        "MUG", "CUP", "CUPS", "PLATE", "PLATES", "BOWL", "TEA", "TEAPOT", "TEASPOONS", "SPOON", "JAR", "JAM", "BAKING",
        "CAKE", "CAKESTAND", "CUTLERY", "TIN", "TINS", "BOTTLE", "GLASS", "TRAY", "APRON", "KITCHEN", "COASTERS",
    ),
    "paper_gifts": ("CARD", "CARDS", "WRAP", "RIBBON", "RIBBONS", "PAPER", "TISSUES", "GIFT", "BUNTING", "GARLAND"),
    "stationery": ("PEN", "PENS", "PENCIL", "PENCILS", "NOTEBOOK", "JOURNAL", "STICKERS", "CALENDAR", "RULER", "TAPE"),
    "storage": ("BOX", "BOXES", "BASKET", "CABINET", "DRAWER", "CRATE", "STORAGE", "SHELF", "RACK", "FRAME", "FRAMES"),
    "textiles": ("CUSHION", "TOWEL", "TOWELS", "THROW", "BLANKET", "QUILT", "RUG", "WARMER", "BOTTLES"),
    "toys": ("TOY", "TOYS", "GAME", "GAMES", "DOLL", "PLAYING", "SKITTLES", "PUZZLE", "CHILDRENS", "DOMINOES"),
}  # fmt: skip


class FactorSettings(Section):
    """Matrix factorisation: implicit ALS on each customer's purchases before a date."""

    enabled: bool = Field(
        False,
        description="Factorise at each snapshot: tables `customer_factors` and `product_factors`, feature "
        "`pair_affinity`, feature service `buy_again_v2`. Off: none of them is made or read.",
    )
    rank: int = Field(16, ge=1, le=128, description="Numbers in a customer's and a product's vector.")
    regularisation: float = Field(
        0.1, ge=1e-6, le=100, description="Penalty on the vectors, for each of their purchases (Spark's `regParam`)."
    )
    alpha: float = Field(
        1.0, gt=0, le=1000, description="How much surer each purchase day makes that a customer wants a product."
    )
    history_days: int = Field(365, ge=28, le=3650, description="Purchases of so many days before a date are read.")
    iterations: int = Field(10, ge=1, le=50, description="Rounds of alternating least squares.")
    seed: int = Field(7, ge=0, description="Seed of the vectors that the first round begins with.")

    @property
    def settled(self) -> tuple[int, float, float, int, int, int]:
        """All that decides the vectors of given purchases."""
        return self.rank, self.regularisation, self.alpha, self.history_days, self.iterations, self.seed


class FeaturesSettings(Section):
    """Settings of feature jobs and the feature store."""

    factors: FactorSettings = Field(
        default_factory=FactorSettings, description="Matrix factorisation of purchases, as a feature."
    )
    categories: dict[str, tuple[str, ...]] = Field(
        default_factory=lambda: dict(_CATEGORIES),
        description="Product categories by words of the description, upper case. The last word that is known decides "
        "(the head noun stands last); a product without any is `other`.",
    )

    @model_validator(mode="after")
    def _words_are_unique(self) -> Self:
        owner: dict[str, str] = {}
        for category, words in self.categories.items():
            if category == "other":
                raise ValueError("category 'other' is what is left over and takes no words")
            for word in words:
                if not re.fullmatch(r"[A-Z0-9][A-Z0-9-]*", word):
                    raise ValueError(
                        f"word {word!r} of category {category!r} must be upper-case letters, digits or '-'"
                    )
                if word in owner:
                    raise ValueError(f"word {word!r} stands in the categories {owner[word]!r} and {category!r}")
                owner[word] = category
        return self

    @property
    def category_names(self) -> tuple[str, ...]:
        """Categories in the order of the settings, `other` last."""
        return (*self.categories, "other")


class FeatureStoreSettings(Section):
    """Settings of Feast's offline joins and of the online store; none of them changes a feature."""

    registry_url: str = Field("", description="SQLAlchemy URL of Feast's registry. Empty: a file under `home/feast`.")
    online_url: str = Field(
        "", description="Online store: `redis://...` with the number of a database. Empty: SQLite under `home/feast`."
    )
    check_pairs: int = Field(
        200, ge=1, description="Pairs that are read online and offline after each materialization and must be equal."
    )
    online_write_rows: int = Field(10_000, ge=1, description="Rows that are prepared at once for the online store.")
    join_memory_gib: float = Field(
        2.0, gt=0, description="Memory that a point-in-time join may use before it spills, GiB."
    )
    join_threads: int | None = Field(None, ge=1, description="Threads of a point-in-time join. Empty: all cores.")
