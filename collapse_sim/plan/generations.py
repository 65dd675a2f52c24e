"""One generation of an arm as what there is to make for it, and an arm with all its generations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from collapse_sim.data.sources import Plan, RowCounts
from collapse_sim.plan.curation_specs import CurationSpec, VerifierSpec
from collapse_sim.plan.score_specs import FeatureSpec, ScoreSpec
from collapse_sim.plan.settings import Arm, Protocol, Recipe
from collapse_sim.plan.specs import DataSpec, FitSpec, ModelSpec, SampleSpec
from collapse_sim.store.spec import Spec


@dataclass(frozen=True)
class GenerationPlan:
    """Everything to make for one generation of an arm; the same specs serve every seed."""

    fit: FitSpec
    samples: SampleSpec
    outputs: SampleSpec | None  # generated for held-out rows' conditions; None when no metric needs them
    curation: CurationSpec | None  # what later fits take, if not the samples as they are
    scores: Mapping[str, ScoreSpec]  # by the metric's shown name

    between: tuple[Spec, ...] = ()  # what has to be made after the fit and before the samples, in its order
    verifier: VerifierSpec | None = None  # generation 0's: what curations judge by
    fitted: bool = True  # False: its rows are imported, and nothing reads its model

    @property
    def model(self) -> ModelSpec:
        """The model in use: what samples are drawn from, what is scored, and what the next generation begins with."""
        return self.samples.model

    @property
    def rows(self) -> Plan:
        """The rows that the model is fitted to."""
        return self.fit.plan

    @property
    def fits(self) -> tuple[FitSpec, ...]:
        """The fit, if it is made."""
        return (self.fit,) if self.fitted else ()

    @property
    def features(self) -> tuple[FeatureSpec, ...]:
        """What the scores read from the store besides models and rows, each once."""
        specs = (spec for score in self.scores.values() for spec in score.features.values())
        return tuple({spec.digest: spec for spec in specs}.values())

    def generated(self) -> tuple[SampleSpec, ...]:
        """What the model generates."""
        further = self.curation.draws[1:] if self.curation else ()
        return (self.samples, *further, *([self.outputs] if self.outputs else []))

    def curations(self) -> tuple[CurationSpec, ...]:
        """The curation, if there is one."""
        return (self.curation,) if self.curation else ()

    def verifiers(self) -> tuple[VerifierSpec, ...]:
        """What curations judge by, to be made before them."""
        return (self.verifier,) if self.verifier else ()

    def specs(self) -> Iterator[Spec]:
        """All artefacts of the generation, in an order in which they can be made."""
        yield from self.fits
        yield from self.between
        yield from self.generated()
        yield from self.verifiers()
        yield from self.curations()
        yield from self.features
        yield from self.scores.values()


@dataclass(frozen=True)
class ArmPlan:
    """One arm with all its generations."""

    arm: Arm
    recipe: Recipe  # with the arm's own settings
    data: DataSpec
    counts: RowCounts
    protocol: Protocol | None  # None for closed forms
    generations: tuple[GenerationPlan, ...]

    @property
    def name(self) -> str:
        return self.arm.name
