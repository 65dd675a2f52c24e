"""Fits that are computed together (`run --ensemble N`) against the same fits one by one."""

from __future__ import annotations

from benchmarks.engine import Finished, image_rows, run
from benchmarks.harness import Case, Setting, Ways

ALONE = "one by one"
RECIPE = """
name: groups
data: {use: image_folder, path: images.npy, held_out: 100}
model: MODEL
train: {steps: STEPS, batch_size: BATCH, evaluate: never}
samples: 10
generations: 1
seeds: FITS
arms: {replace: {data: replace}}
metrics: [test_loss]
"""


def _case(
    name: str, what: str, model: str, side: int, fits: int, batch: int, steps: tuple[int, int], **target: float
) -> Case:
    """`steps`: updates per fit on a CPU, and on CUDA."""

    def prepare(setting: Setting) -> Ways:
        image_rows(setting.folder, 1000, (side, side, 1))
        updates, seeds = setting.sized(*steps, 1), setting.sized(fits, fits, 2)

        def rate(ensemble: str) -> float:
            finished: Finished = run(
                setting, RECIPE, ensemble=ensemble, model=model, steps=updates, batch=batch, fits=seeds
            )
            return finished.count("fit") * updates / finished.seconds("fit")

        return Ways(
            {f"groups of {seeds}": lambda: rate(str(seeds)), ALONE: lambda: rate("off")},
            setting.device.with_precision("auto").precision,
            facts={"updates per fit": updates, "batch": batch, "fits": seeds},
        )

    compares = f"{fits} fits of {what}, generations 0 and 1"
    return Case(name, compares, "updates/s", prepare, targets={ALONE: target} if target else {})


CASES = (
    _case("groups-quickstart", "quickstart's VAE", "{use: vae, hidden: 128, latent: 8}", 8, 12, 128, (60, 100)),
    _case("groups-vae", "table 1's VAE", "{use: vae, hidden: 420, latent: 20}", 32, 12, 256, (10, 100)),
    _case(
        "groups-unet",
        "the UNet for digits (0.65 M parameters)",
        "{use: ddpm, sampler: ddim, sampling_steps: 2}",
        8,
        9,
        64,
        (3, 12),
        cpu=1.5,
        cuda=5,
    ),
)
