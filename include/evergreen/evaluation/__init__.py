"""Evaluation: metrics with intervals, slices, readiness, drift."""
