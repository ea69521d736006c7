"""Matrix factorisation: registered only where `settings.features.factors.enabled`, as all that stands in this module.

The vectors of two days are not in the same rotation, so that no service has them: a model reads their product alone.
"""

from __future__ import annotations

from feast import FeatureService, FeatureView, Field
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64

from evergreen.features.registry import FACTOR_FEATURES
from evergreen.features.schema import CUSTOMER_FACTOR_COLUMNS, PRODUCT_FACTOR_COLUMNS
from feature_repo.data_sources import OWNER
from feature_repo.entities import customer, product
from feature_repo.feature_views import SNAPSHOT, fields
from feature_repo.on_demand import buy_again_features
from feature_repo.stores.delta import VECTORIZED, DeltaSource

customer_factors_state = FeatureView(
    name="customer_factors_state",
    entities=[customer],
    ttl=SNAPSHOT,
    schema=fields(CUSTOMER_FACTOR_COLUMNS),
    source=DeltaSource(
        table="customer_factors",
        description="Vector of each customer with a purchase before as_of",
        owner=OWNER,
        tags={"grain": "customer x as_of"},
    ),
    online=True,
    description="Vector of a customer by matrix factorisation of the purchases before as_of",
    owner=OWNER,
    tags={"domain": "retail", "clock": "snapshot", "version": "1"},
)

product_factors_state = FeatureView(
    name="product_factors_state",
    entities=[product],
    ttl=SNAPSHOT,
    schema=fields(PRODUCT_FACTOR_COLUMNS),
    source=DeltaSource(
        table="product_factors",
        description="Vector of each product with a purchase before as_of",
        owner=OWNER,
        tags={"grain": "product x as_of"},
    ),
    online=True,
    description="Vector of a product by matrix factorisation of the purchases before as_of",
    owner=OWNER,
    tags={"domain": "retail", "clock": "snapshot", "version": "1"},
)


@on_demand_feature_view(
    name="factor_features",
    sources=[customer_factors_state, product_factors_state],
    schema=[Field(name=feature.name, dtype=Float64) for feature in FACTOR_FEATURES],
    mode="python",
    description="How well a product suits a customer, by matrix factorisation",
    owner=OWNER,
    tags={VECTORIZED: "yes", "domain": "retail", "version": "1"},
)
def factor_features(inputs: dict) -> dict:
    """The features of `FACTOR_FEATURES`: lists from lists, arrays from Arrow columns."""
    from evergreen.features.affinity import affinity

    made = affinity(inputs)
    if isinstance(inputs["customer_factors"], list):
        return {name: values.tolist() for name, values in made.items()}
    return made


buy_again_v2 = FeatureService(
    name="buy_again_v2",
    features=[buy_again_features, factor_features],
    description="All features of the buy-it-again model and the product's affinity, in the order in which it sees them",
    owner=OWNER,
    tags={"model": "buy-it-again", "version": "2"},
)
