"""Names that recipes use, and their classes; no class is imported before it is needed.

Names of this package are built in. Short names that installed packages offer (entry points) and a user's own
"package.module:Class" are plug-ins: importing one runs its code, and `only` restricts which may be imported.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.metadata
import re
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collapse_sim.core.component import Component

BUILT_IN: dict[str, dict[str, str]] = {
    "families": {
        "gaussian": "collapse_sim.families.gaussian:Gaussian",
        "gmm": "collapse_sim.families.gmm:GMM",
        "kde": "collapse_sim.families.kde:KDE",
        "flow": "collapse_sim.families.flow:Flow",
        "linear": "collapse_sim.families.linear:LinearRegression",
        "vae": "collapse_sim.families.vae:VAE",
        "conv_vae": "collapse_sim.families.conv_vae:ConvVAE",
        "classifier": "collapse_sim.families.classifier:Classifier",
        "ddpm": "collapse_sim.families.ddpm:DDPM",
        "flow_matching": "collapse_sim.families.flow_matching:FlowMatching",
        "edm": "collapse_sim.families.edm:EDM",
        "seq2seq": "collapse_sim.families.seq2seq:Seq2Seq",
        "causal_lm": "collapse_sim.families.causal_lm:CausalLM",
        "conformer": "collapse_sim.families.conformer:Conformer",
    },
    "data": {
        "digits": "collapse_sim.data.images.digits:Digits",
        "mnist": "collapse_sim.data.images.mnist:MNIST",
        "fashion_mnist": "collapse_sim.data.images.mnist:FashionMNIST",
        "cifar10": "collapse_sim.data.images.cifar10:CIFAR10",
        "celeba": "collapse_sim.data.images.celeba:CelebA",
        "image_folder": "collapse_sim.data.images.image_folder:ImageFolder",
        "text_files": "collapse_sim.data.text.text_files:TextFiles",
        "pairs": "collapse_sim.data.text.pairs:Pairs",
        "cnn_dailymail": "collapse_sim.data.text.text_sets:CNNDailyMail",
        "xsum": "collapse_sim.data.text.text_sets:XSum",
        "tinystories": "collapse_sim.data.text.text_sets:TinyStories",
        "wikitext": "collapse_sim.data.text.text_sets:WikiText",
        "point_files": "collapse_sim.data.point_files:PointFiles",
        "conformers": "collapse_sim.data.molecules.conformers:Conformers",
        "gaussian": "collapse_sim.data.toys.gaussian_points:GaussianPoints",
        "linear": "collapse_sim.data.toys.linear_data:LinearData",
        "eight_gaussians": "collapse_sim.data.toys.mixtures:EightGaussians",
        "gaussian_mixture": "collapse_sim.data.toys.mixtures:GaussianMixture",
        "two_moons": "collapse_sim.data.toys.curves:TwoMoons",
        "circles": "collapse_sim.data.toys.curves:Circles",
        "swiss_roll": "collapse_sim.data.toys.curves:SwissRoll",
        "grammar": "collapse_sim.data.text.grammar_stories:GrammarStories",
        "grammar_pairs": "collapse_sim.data.text.grammar_pairs:GrammarPairs",
    },
    "strategies": {
        "replace": "collapse_sim.plan.strategies:Replace",
        "accumulate": "collapse_sim.plan.strategies:Accumulate",
        "accumulate-subsample": "collapse_sim.plan.strategies:AccumulateSubsample",
        "mix": "collapse_sim.plan.strategies:Mix",
        "fresh": "collapse_sim.plan.strategies:Fresh",
        "growing": "collapse_sim.plan.strategies:Growing",
        "shrinking": "collapse_sim.plan.strategies:Shrinking",
    },
    "curation": {
        "random": "collapse_sim.remedies.random_choice:RandomChoice",
        "verify": "collapse_sim.remedies.verify:Verify",
        "luce": "collapse_sim.remedies.luce:Luce",
        "likelihood": "collapse_sim.remedies.likelihood:Likelihood",
        "detector": "collapse_sim.remedies.detector:Detector",
        "diversity": "collapse_sim.remedies.diversity:Diversity",
        "latent": "collapse_sim.remedies.latent:Latent",
        "transport": "collapse_sim.remedies.transport:Transport",
        "snap": "collapse_sim.remedies.corrections:Snap",
        "pull": "collapse_sim.remedies.corrections:Pull",
        "edit": "collapse_sim.remedies.token_editing:TokenEditing",
    },
    "weighting": {
        "golden": "collapse_sim.remedies.golden:Golden",
        "tce": "collapse_sim.remedies.tce:TruncatedCrossEntropy",
        "focal": "collapse_sim.remedies.focal:Focal",
    },
    "merge": {
        "neon": "collapse_sim.remedies.neon:Neon",
        "average": "collapse_sim.remedies.average:Average",
    },
    "guidance": {
        "sims": "collapse_sim.remedies.sims:SIMS",
        "temperature": "collapse_sim.remedies.temperature:Temperature",
        "truncation": "collapse_sim.remedies.truncation:Truncation",
    },
    "metrics": {
        "test_loss": "collapse_sim.metrics.loss:TestLoss",
        "fid": "collapse_sim.metrics.features:FID",
        "kid": "collapse_sim.metrics.features:KID",
        "precision": "collapse_sim.metrics.features:Precision",
        "recall": "collapse_sim.metrics.features:Recall",
        "density": "collapse_sim.metrics.features:Density",
        "coverage": "collapse_sim.metrics.features:Coverage",
        "vendi": "collapse_sim.metrics.features:Vendi",
        "effective_rank": "collapse_sim.metrics.spread:EffectiveRank",
        "participation_ratio": "collapse_sim.metrics.spread:ParticipationRatio",
        "tail_variance": "collapse_sim.metrics.spread:TailVariance",
        "memorisation": "collapse_sim.metrics.memorisation:Memorisation",
        "authenticity": "collapse_sim.metrics.memorisation:Authenticity",
        "nearest_distance": "collapse_sim.metrics.memorisation:NearestDistance",
        "class_shares": "collapse_sim.metrics.classes:ClassShares",
        "class_recall": "collapse_sim.metrics.classes:ClassRecall",
        "class_coverage": "collapse_sim.metrics.classes:ClassCoverage",
        "coverage_by_class": "collapse_sim.metrics.by_class:CoverageByClass",
        "fid_by_class": "collapse_sim.metrics.by_class:FIDByClass",
        "conditional_accuracy": "collapse_sim.metrics.by_class:ConditionalAccuracy",
        "class_entropy": "collapse_sim.metrics.classes:ClassEntropy",
        "inception_score": "collapse_sim.metrics.classes:InceptionScore",
        "latent_std": "collapse_sim.metrics.spread:LatentStd",
        "variance_ratio": "collapse_sim.metrics.closed_form:VarianceRatio",
        "mean_error": "collapse_sim.metrics.closed_form:MeanError",
        "w2": "collapse_sim.metrics.closed_form:W2",
        "sample_w2": "collapse_sim.metrics.point_samples:SampleW2",
        "sliced_w2": "collapse_sim.metrics.point_samples:SlicedW2",
        "mmd": "collapse_sim.metrics.point_samples:MMD",
        "sample_variance_ratio": "collapse_sim.metrics.point_samples:SampleVarianceRatio",
        "sample_memorisation": "collapse_sim.metrics.memorisation:SampleMemorisation",
        "sample_nll": "collapse_sim.metrics.point_samples:SampleNLL",
        "mode_coverage": "collapse_sim.metrics.point_samples:ModeCoverage",
        "high_quality": "collapse_sim.metrics.point_samples:HighQuality",
        "rare_productions": "collapse_sim.metrics.grammar:RareProductions",
        "rare_use": "collapse_sim.metrics.grammar:RareUse",
        "production_kl": "collapse_sim.metrics.grammar:ProductionKL",
        "grammatical": "collapse_sim.metrics.grammar:Grammatical",
        "grammar_kl": "collapse_sim.metrics.grammar:GrammarKL",
        "grammar_nll": "collapse_sim.metrics.grammar:GrammarNLL",
        "excess_test_error": "collapse_sim.metrics.closed_form:ExcessTestError",
        "perplexity": "collapse_sim.metrics.loss:Perplexity",
        "sample_perplexity": "collapse_sim.metrics.loss:SamplePerplexity",
        "judge_perplexity": "collapse_sim.metrics.loss:JudgePerplexity",
        "rouge1": "collapse_sim.metrics.rouge:Rouge1",
        "rouge2": "collapse_sim.metrics.rouge:Rouge2",
        "rougeL": "collapse_sim.metrics.rouge:RougeL",
        "rougeLsum": "collapse_sim.metrics.rouge:RougeLsum",
        "rare_words": "collapse_sim.metrics.text_counts:RareWords",
        "vocabulary": "collapse_sim.metrics.text_counts:Vocabulary",
        "zipf": "collapse_sim.metrics.text_counts:Zipf",
        "distinct_n": "collapse_sim.metrics.text_counts:DistinctN",
        "repetition": "collapse_sim.metrics.text_counts:Repetition",
        "length": "collapse_sim.metrics.text_counts:TextLength",
        "self_bleu": "collapse_sim.metrics.text_counts:SelfBLEU",
        "mauve": "collapse_sim.metrics.mauve:Mauve",
        "cov": "collapse_sim.metrics.conformations:ConformationCoverage",
        "mat": "collapse_sim.metrics.conformations:ConformationMatching",
        "bond_lengths": "collapse_sim.metrics.conformations:BondLengths",
        "bond_angles": "collapse_sim.metrics.conformations:BondAngles",
    },
    "features": {
        "pixels": "collapse_sim.metrics.feature_maps:Pixels",
        "classifier": "collapse_sim.metrics.feature_maps:ClassifierFeatures",
        "inception": "collapse_sim.metrics.networks:Inception",
        "torchscript": "collapse_sim.metrics.networks:TorchScript",
        "dinov2": "collapse_sim.metrics.networks:DINOv2",
    },
    "trackers": {
        "tensorboard": "collapse_sim.run.track_tensorboard:TensorBoard",
        "wandb": "collapse_sim.run.track_wandb:WandB",
        "trackio": "collapse_sim.run.track_trackio:Trackio",
        "mlflow": "collapse_sim.run.track_mlflow:MLflow",
    },
}


REMEDIES = ("curation", "weighting", "merge", "guidance")  # the groups that are optional axes of an arm
OWN_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")  # package.module:Class
ROOT = "collapse_sim."


class UnknownNameError(LookupError):
    """No component of that name, or none that may be used; the message says why, and which names are allowed."""


class Allowed(NamedTuple):
    """Which plug-ins may be imported."""

    names: Collection[str]
    why: str  # for messages about other plug-ins: why they are not imported, and what would allow it


_allowed: ContextVar[Allowed | None] = ContextVar("_allowed", default=None)  # None: all


@contextmanager
def only(allowed: Allowed | None) -> Iterator[None]:
    """Within this context, only these plug-ins may be imported; None: all."""
    token = _allowed.set(allowed)
    try:
        yield
    finally:
        _allowed.reset(token)


def names(group: str) -> list[str]:
    """Short names in `group` (a key of BUILT_IN), entry points included."""
    return sorted({*BUILT_IN[group], *(point.name for point in _entry_points(group))})


def load(group: str, name: str) -> type[Component]:
    """The class of a short name or of a user's own "package.module:Class": a subclass of Component, not instantiated.

    Raises UnknownNameError when no class has the name (with a suggestion), when it cannot or may not be imported, and
    when it is something else.
    """
    if name in BUILT_IN[group]:
        return _component(name, _attribute(BUILT_IN[group][name]))  # a failure here is a bug
    if ":" not in name:
        for point in _entry_points(group):
            if point.name == name:
                return _plugin(name, point.load)
        raise UnknownNameError(
            f"unknown {name!r}{did_you_mean(name, names(group))}; allowed: {', '.join(names(group))}"
        )
    if not OWN_CLASS.fullmatch(name):
        raise UnknownNameError(f"{name!r} is not a class name; allowed: package.module:Class")
    if name.startswith(ROOT):
        return _imported(name, lambda: _attribute(name))
    _importable(name)
    return _plugin(name, lambda: _attribute(name))


def load_function(name: str) -> FunctionType:
    """A user's own function "package.module:function". Raises UnknownNameError when it is something else, and when it
    cannot or may not be imported."""
    from collapse_sim.core.errors import PluginError
    from collapse_sim.core.plugins import source_of

    if not OWN_CLASS.fullmatch(name):
        raise UnknownNameError(f"{name!r} is not a function's name; allowed: package.module:function")
    _importable(name)
    _check_allowed(name)
    function = _attempt(name, lambda: _attribute(name))
    if not isinstance(function, FunctionType):
        raise UnknownNameError(f"{name!r} is {type(function).__name__}; needed: a function")
    try:
        source_of(function)
    except (PluginError, OSError) as error:
        raise UnknownNameError(f"cannot read {name!r}: {error}") from error
    return function


def _importable(name: str) -> None:
    """Let modules in the current folder be imported, however the program was started. Raises UnknownNameError for names
    in Python's standard library."""
    if name.partition(".")[0] in sys.stdlib_module_names or name.partition(":")[0] in sys.stdlib_module_names:
        raise UnknownNameError(f"{name!r} is in Python's standard library, which has no components; it is not imported")
    cwd = str(Path.cwd())
    if cwd not in sys.path:
        sys.path.append(cwd)


def is_plugin_name(name: str) -> bool:
    """Whether a text is the name of a plug-in: "package.module:Class" outside of this package, or an entry point."""
    own = bool(OWN_CLASS.fullmatch(name)) and not name.startswith(ROOT)
    return own or any(
        name == point.name and name not in BUILT_IN[group] for group in BUILT_IN for point in _entry_points(group)
    )


@functools.cache
def _short_names() -> dict[str, str]:
    """{"module:Class": short name} of this package's components."""
    return {target: name for group in BUILT_IN.values() for name, target in group.items()}


def identity(cls: type[object]) -> str:
    """How content keys name a class: by its short name; a user-defined class by "module:Class"; a class of settings
    that is not registered, such as Train, by the class's name."""
    target = f"{cls.__module__}:{cls.__qualname__}"
    built_in = target.startswith(ROOT)
    return _short_names().get(target, cls.__qualname__ if built_in else target)


def did_you_mean(word: str, allowed: list[str]) -> str:
    """', did you mean X?' for the closest allowed word, or ""."""
    matches = difflib.get_close_matches(word[:100], allowed[:200], n=1, cutoff=0.6)  # cut to bound the time
    return f", did you mean {matches[0]!r}?" if matches else ""


@functools.cache
def _entry_points(group: str) -> list[importlib.metadata.EntryPoint]:
    """Entry points of all installed packages, whose files are read once per process."""
    return list(importlib.metadata.entry_points(group=f"collapse_sim.{group}"))


def _attribute(target: str) -> object:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _plugin(name: str, get: Callable[[], object]) -> type[Component]:
    """A plug-in, if it may be imported; its source is read at the same time."""
    from collapse_sim.core.component import is_plugin
    from collapse_sim.core.errors import PluginError
    from collapse_sim.core.plugins import source_of

    _check_allowed(name)
    cls = _imported(name, get)
    try:
        if is_plugin(cls):
            source_of(cls)
    except (PluginError, OSError) as error:
        raise UnknownNameError(f"cannot read {name!r}: {error}") from error
    return cls


def _check_allowed(name: str) -> None:
    allowed = _allowed.get()
    if allowed is not None and name not in allowed.names:
        raise UnknownNameError(f"{name!r} is not imported: {allowed.why}")


def _imported(name: str, get: Callable[[], object]) -> type[Component]:
    return _component(name, _attempt(name, get))


def _attempt(name: str, get: Callable[[], object]) -> object:
    from collapse_sim.core.plugins import error_text

    try:
        with redirect_stdout(sys.stderr):  # stdout is data, and a module may print
            return get()
    except KeyboardInterrupt:
        raise
    except (ImportError, AttributeError) as error:
        raise UnknownNameError(f"cannot import {name!r}: {error_text(error).partition(': ')[2]}") from error
    except BaseException as error:  # a user's own module may raise anything at import, even SystemExit
        raise UnknownNameError(f"cannot import {name!r}: {error_text(error)}") from error


def _component(name: str, target: object) -> type[Component]:
    from collapse_sim.core.component import Component

    if isinstance(target, type) and issubclass(target, Component):
        return target
    raise UnknownNameError(f"{name!r} is not a subclass of collapse_sim.core.component.Component")
