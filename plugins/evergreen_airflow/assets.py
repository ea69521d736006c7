"""Assets: what one DAG publishes and another starts on. An event's partition key is the day of data, `YYYY-MM-DD`."""

from __future__ import annotations

from airflow.sdk import Asset

TRANSACTIONS = Asset("transactions", uri="evergreen://lake/transactions", group="lake")
FEATURES = Asset("features", uri="evergreen://lake/features", group="lake")
CHALLENGER = Asset("challenger", uri="evergreen://registry/challenger", group="models")
CHAMPION = Asset("champion", uri="evergreen://registry/champion", group="models")
