"""Simulated points whose true distribution is known: one file a kind of data."""
