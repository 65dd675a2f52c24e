"""Benchmarks: `python -m benchmarks` measures; `benchmarks/README.md` describes the cases and has the figures."""
