"""Content-addressed artefacts, the run directory, its journal, and locks."""
