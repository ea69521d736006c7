"""Evergreen: a "buy it again" model, retrained every day and shipped only with evidence. Never imports Airflow."""

__version__ = "0.1.0"
