"""From a run's journal to means, intervals, verdicts, tables and pictures. Nothing here changes a run."""
