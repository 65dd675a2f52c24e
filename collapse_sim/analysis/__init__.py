"""Means, intervals, verdicts, tables and pictures from a run's journal. Nothing here changes a run."""
