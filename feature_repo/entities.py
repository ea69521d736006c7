"""Who and what features belong to."""

from __future__ import annotations

from feast import Entity, ValueType

customer = Entity(
    name="customer",
    join_keys=["customer_id"],
    value_type=ValueType.STRING,
    description="A customer, by the source's customer number",
    owner="data-platform@evergreen.example",
    tags={"domain": "retail"},
)

product = Entity(
    name="product",
    join_keys=["product_id"],
    value_type=ValueType.STRING,
    description="A product, by its code in upper case",
    owner="data-platform@evergreen.example",
    tags={"domain": "retail"},
)
