"""Thin command-line entry points: one module a Spark job or container task."""
