"""One file per subject; `benchmarks.catalogue` lists their cases."""
