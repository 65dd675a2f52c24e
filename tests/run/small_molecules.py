"""A recipe of conformations, quick to run."""

from __future__ import annotations

CONFORMATIONS = """
name: molecules
data: {use: conformers, molecules: [CCO, CCN, CCC, CC=O, CCF, CCCl], conformers: 4, held_out: 2, hydrogens: false}
model: {use: conformer, width: 8, layers: 1, timesteps: 10, sampling_steps: 5}
train: {steps: 4, batch_size: 8, evaluate: never}
sampling: {shard: 5}
generations: 2
seeds: [3, 0]
arms:
  replace: {data: replace}
  accumulate+distill: {data: accumulate, teacher: {generation: 0, weights: {output: 0.5}}}
metrics: [test_loss, cov, {use: mat, of: samples}, bond_lengths]
"""
