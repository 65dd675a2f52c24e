"""All cases, the most valuable first."""

from __future__ import annotations

from benchmarks.cases import busy, decoding, diffusion, groups, growth, processes, scoring, startup, text, toys, vae
from benchmarks.harness import Case

CASES: dict[str, Case] = {
    case.name: case
    for module in (vae, diffusion, groups, decoding, text, toys, startup, scoring, busy, growth, processes)
    for case in module.CASES
}
