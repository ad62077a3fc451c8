"""Settings of optimisers, and the kinds of objectives and optimisers that a suite may name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline_lib.blocks import (
    Block,
    Count,
    CountOrAuto,
    Faults,
    Fraction,
    NonNegative,
    Positive,
    PositiveOrAuto,
    Share,
    choices,
)
from pipeline_lib.config.objectives import ObjectiveSettings

# --- optimisers: one class for each entry of pipeline_lib.optimizers.OPTIMIZERS -----------------


class AdamWSettings(Block):
    kind: Literal["adamw"]
    learning_rate: Positive
    beta1: Share = 0.9
    beta2: Share = 0.999
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.0


class AdamW8bitSettings(AdamWSettings):
    """AdamW with 8-bit states; needs the optional extra `eightbit`."""

    kind: Literal["adamw_8bit"]  # type: ignore[assignment]


class SGDSettings(Block):
    kind: Literal["sgd"]
    learning_rate: Positive
    momentum: Share = 0.9
    weight_decay: NonNegative = 0.0


class SignumSettings(Block):
    kind: Literal["signum"]
    learning_rate: Positive
    momentum: Share = 0.9
    weight_decay: NonNegative = 0.0


class LionSettings(Block):
    kind: Literal["lion"]
    learning_rate: Positive
    beta1: Share = 0.9
    beta2: Share = 0.99
    weight_decay: NonNegative = 0.0


class MuonSettings(Block):
    """Muon for matrices within the layers, AdamW for embeddings and vectors, at one learning rate."""

    kind: Literal["muon"]
    learning_rate: Positive
    momentum: Share = 0.95
    beta1: Share = Field(0.9, description="Of AdamW's part")
    beta2: Share = Field(0.999, description="Of AdamW's part")
    eps: Positive = Field(1e-8, description="Of AdamW's part")
    weight_decay: NonNegative = 0.0


CurvatureData = Literal["forget", "retain", "both"]


class SophiaSettings(Block):
    """Defaults are the published constants (arXiv 2305.14342, section 3.1, Sophia-G)."""

    kind: Literal["sophia"]
    learning_rate: Positive
    beta1: Share = 0.96
    beta2: Share = 0.99
    gamma: PositiveOrAuto = Field(
        0.05, description="Curvature scale; a larger one clips fewer coordinates; auto holds `clipped_target`"
    )
    clipped_target: Fraction | None = Field(
        None, description="Share of coordinates to clip; with `gamma: auto` only"
    )
    eps: Positive = 1e-12
    weight_decay: NonNegative = 0.0
    estimator: Literal[
        "gauss_newton_bartlett", "hutchinson_rademacher", "hutchinson_gaussian", "empirical_fisher"
    ] = "gauss_newton_bartlett"
    update_every: CountOrAuto = Field(
        10, description="Steps between curvature estimates; auto holds `drift_target`"
    )
    drift_target: Fraction | None = Field(
        None,
        description="Relative change of the curvature at a refresh; with `update_every: auto` only",
    )
    curvature_data: CurvatureData = "both"
    curvature_examples: Count | None = Field(
        None,
        description="Examples of each set of a step on which the curvature is measured, drawn anew for every "
        "estimate; all of them where left out",
    )

    @model_validator(mode="after")
    def _fits(self) -> SophiaSettings:
        faults = []
        for setting, goal in (("gamma", "clipped_target"), ("update_every", "drift_target")):
            automatic = getattr(self, setting) == "auto"
            if automatic and getattr(self, goal) is None:
                faults.append((goal, f"`{setting}: auto` needs it: a number between 0 and 1, such as 0.5"))
            if not automatic and getattr(self, goal) is not None:
                faults.append(
                    (goal, f"goes with `{setting}: auto`, and `{setting}` is {getattr(self, setting)}")
                )
        if self.estimator == "empirical_fisher" and self.curvature_data != "both":
            message = "squares the gradient of the unlearning loss itself, so `curvature_data` must be both"
            faults.append(("curvature_data", f"empirical_fisher {message}; found {self.curvature_data!r}"))
        if self.estimator == "empirical_fisher" and self.curvature_examples is not None:
            message = "squares the step's own gradient, which is of all its examples: leave it out"
            faults.append(("curvature_examples", f"empirical_fisher {message}"))
        if faults:
            raise Faults(faults)
        return self


class SophiaAsReleasedSettings(Block):
    """Defaults are the constants of SOUL's released code."""

    kind: Literal["sophia_as_released"]
    learning_rate: Positive
    beta1: Share = 0.9
    beta2: Share = 0.95
    rho: Positive = 0.04
    weight_decay: NonNegative = 0.0


class InfluenceSettings(Block):
    """One damped Newton step on the objective, theta - learning_rate (G + damping I)^-1 grad."""

    kind: Literal["influence"]
    learning_rate: Positive = Field(1.0, description="Length of the step; 1 is the whole Newton step")
    solver: Literal["diagonal", "conjugate_gradient", "lissa", "ekfac"] = "conjugate_gradient"
    damping: Positive = Field(1e-1, description="Added to the curvature, in its units (nats a token)")
    max_iterations: Count = Field(50, description="Of conjugate gradients and LiSSA")
    tolerance: Fraction = Field(1e-2, description="Relative residual at which the solver has converged")
    curvature_data: CurvatureData = "retain"
    curvature_examples: Count = Field(128, description="Examples on which the curvature is measured")


OptimizerSettings = Annotated[
    AdamWSettings
    | AdamW8bitSettings
    | SGDSettings
    | SignumSettings
    | LionSettings
    | MuonSettings
    | SophiaSettings
    | SophiaAsReleasedSettings
    | InfluenceSettings,
    Field(discriminator="kind"),
]

OBJECTIVE_KINDS = tuple(choices(ObjectiveSettings))
OPTIMIZER_KINDS = tuple(choices(OptimizerSettings))
SECOND_ORDER = frozenset({"sophia", "sophia_as_released", "influence"})
