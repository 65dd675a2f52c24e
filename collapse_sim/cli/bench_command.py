"""`collapse-sim bench RECIPE`: measure on this machine what a run of a recipe would take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from collapse_sim.cli.columns import columns
from collapse_sim.cli.options import (
    ArmsOption,
    DataOption,
    DeviceOption,
    EnsembleOption,
    GenerationsOption,
    JsonOption,
    PluginsOption,
    QuietOption,
    RecipeArgument,
    RunStoreOption,
    SeedsOption,
    SetOption,
    SmokeOption,
)
from collapse_sim.ui.console import data, document, say, say_logs

if TYPE_CHECKING:
    from collapse_sim.plan.costs import Rate
    from collapse_sim.run.bench import Bench

MOST_COLUMNS = 4  # generations beside the last one
UNITS = {"import": "model", "fit": "update", "samples": "row", "features": "row", "scores": "score", "data": "row"}


def bench(
    recipe: RecipeArgument,
    arm: ArmsOption = None,
    seed: SeedsOption = None,
    generations: GenerationsOption = None,
    settings: SetOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The run directory whose store is asked. Default: runs/NAME."),
    ] = None,
    store: RunStoreOption = None,
    data_dir: DataOption = Path("data"),
    device: DeviceOption = "auto",
    ensemble: EnsembleOption = "auto",
    smoke: SmokeOption = False,
    seconds: Annotated[
        float,
        typer.Option("--seconds", metavar="S", min=0.1, help="Seconds to measure each kind of work for, roughly."),
    ] = 4.0,
    plugins: PluginsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure what a run of a recipe would take on this machine.

    Prints the time of every generation and arm, the memory and the disk space.

    Short stretches of its fits, sampling and scoring are computed in a temporary folder (TMPDIR), which is then
    removed. What the run's store has already is taken off.
    """
    say_logs(quiet=quiet)
    if not quiet:
        say(f"reading {recipe} ...")  # what follows imports torch, which takes seconds

    from collapse_sim.plan.keeping import to_come
    from collapse_sim.run.bench import Bench
    from collapse_sim.run.preparing import RunOptions
    from collapse_sim.store.run_directory import store_of

    options = RunOptions(
        recipe,
        settings=settings or (),
        smoke=smoke,
        arms=arm or (),
        seeds=seed or (),
        generations=generations,
        plugins=plugins,
        device=device,
        data_dir=data_dir,
        out=out,
    )
    experiment, opened, folder = options.prepared()
    of_store = to_come(experiment, store or store_of(folder))
    measurement = Bench(experiment, opened, data_dir, of_store, seconds, ensemble, (lambda _: None) if quiet else say)
    rates = measurement.run()
    result = bench_document(measurement, rates)
    document(result) if as_json else data(bench_text(result))


def bench_document(bench: Bench, rates: Mapping[str, Rate]) -> dict[str, Any]:
    """The measured rates and the prediction as JSON; seconds and bytes."""
    from collapse_sim.plan.costs import predict
    from collapse_sim.plan.sizes import bytes_to_come
    from collapse_sim.run.bench import named

    experiment, missing = bench.experiment, bench.missing
    prediction = predict(experiment, missing, rates)
    specs = list(experiment.specs())
    to_make = sum(map(missing, specs))
    all_of = sum(len(experiment.recipe.seeds) if spec.seeded else 1 for spec in specs)
    return {
        "schema": 1,
        "name": experiment.recipe.name,
        "device": bench.device.describe(),
        "ensemble": bench.ensemble,
        "seeds": list(experiment.recipe.seeds),
        "artefacts": {"to_make": to_make, "reused": all_of - to_make},
        "measured": [
            {
                "kind": one.spec.kind,
                "what": named(one.spec, experiment),
                "unit": "row" if one.spec.stacked else UNITS[one.spec.kind.removeprefix("own ")],
                "seconds_per_unit": rates[kind].unit_s,
                "seconds_per_artefact": rates[kind].each_s,
                "seconds_per_evaluation": rates[kind].evaluation_s,
                "measured_units": one.units,
            }
            for kind, one in bench.measured.items()
        ],
        "not_measured": bench.problems,
        "seconds": prediction.total_s,
        "shared_seconds": prediction.shared_s,
        "arms": {
            name: [{"generation": k, "seconds": own_s} for k, own_s in enumerate(cells)]
            for name, cells in prediction.cells_s.items()
        },
        "without": dict(prediction.unknown),
        "memory": {
            "peak_bytes": bench.peak_bytes(),
            "before_bytes": bench.start_bytes,
            "weights_bytes": max(experiment.weights_bytes.values()),
        },
        "bytes_to_come": bytes_to_come(experiment, missing),
    }


def bench_text(result: Mapping[str, Any]) -> str:
    """The document as text for people."""
    from collapse_sim.ui.formatting import about, count, duration, plural, size

    artefacts = result["artefacts"]
    lines = [f"{result['name']} on {result['device']}: {plural(len(result['seeds']), 'seed')}"]
    if artefacts["to_make"]:
        measured = [[one["what"], _rate(one)] for one in result["measured"]]
        lines += ["", columns([["measured", ""], *measured])]
        lines += [f"not measured: {problem}" for problem in result["not_measured"]]
        last = max(len(cells) for cells in result["arms"].values()) - 1
        shown = [*range(min(last, MOST_COLUMNS)), last]
        head = ["time to come", *(f"gen. {k}" for k in shown), "all"]
        table = [
            [name, *(duration(own[k]["seconds"]) for k in shown), duration(sum(cell["seconds"] for cell in own))]
            for name, own in result["arms"].items()
        ]
        lines += ["", columns([head, *table])]
        lines += [f"shared by all arms: {duration(result['shared_seconds'])}"]
        lines += ["(what several arms share counts for the first of them)", ""]
    without = ", ".join(f"{of} of {kind}" for kind, of in result["without"].items())
    memory = result["memory"]
    lines += [
        f"time:   about {about(result['seconds'])}" if artefacts["to_make"] else "time:   nothing is left to make",
        f"        {count(artefacts['to_make'])} artefacts to make, {count(artefacts['reused'])} there already"
        + (f"; without {without}" if without else ""),
        f"memory: {size(memory['peak_bytes'])} at most, {size(memory['before_bytes'])} before the first fit",
        f"disk:   about {result['bytes_to_come'] / 1e6:.1f} MB to write",
    ]
    return "\n".join(lines)


def _rate(one: Mapping[str, Any]) -> str:
    evaluation_s = one["seconds_per_evaluation"]
    more = f", {_per(evaluation_s, 'evaluation')}" if evaluation_s else ""
    return _per(one["seconds_per_unit"], one["unit"]) + more


def _per(seconds: float, unit: str) -> str:
    """ "2.1 ms per update"."""
    for factor, name in ((1, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {name} per {unit}"
    return f"{seconds * 1e9:.3g} ns per {unit}"
