"""What is predicted, in days: features, labels, Feast's TTL and the sample's truth are all made for these."""

from __future__ import annotations

HORIZON_DAYS = 28
"""A pair is bought again if it is bought within so many days from `as_of` on."""

ACTIVE_DAYS = 365
"""A pair is asked about if it was bought within so many days before `as_of`."""
