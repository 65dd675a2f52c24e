"""Metrics: one class each, in one file per kind of data or method. `base` holds the contract."""
