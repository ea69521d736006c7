"""What models and people ask for. A service that a model was trained on never changes: a new one gets a new number."""

from __future__ import annotations

from feast import FeatureService

from feature_repo.on_demand import OWNER, buy_again_features

buy_again_v1 = FeatureService(
    name="buy_again_v1",
    features=[buy_again_features],
    description="All features of the buy-it-again model, in the order in which it sees them",
    owner=OWNER,
    tags={"model": "buy-it-again", "version": "1"},
)

profile_v1 = FeatureService(
    name="profile_v1",
    features=[
        buy_again_features[
            [
                "user_segment",
                "purchase_frequency_tier",
                "preferred_category",
                "country",
                "days_since_last_purchase",
                "total_purchases",
                "avg_purchase_value",
                "category",
                "price_tier",
            ]
        ]
    ],
    description="What people look at: a customer's segment and habits, a product's category and price tier",
    owner=OWNER,
    tags={"model": "none", "version": "1"},
)
