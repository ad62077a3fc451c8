"""Settings of objectives: one class for each entry of pipeline_lib.objectives.OBJECTIVES.

Defaults are those of the paper or of its code, unless a description says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from pipeline_lib.blocks import Block, CountOrAll, CountOrZero, NonNegative, Positive, Switch

RETAIN = "Weight of the retain loss"
REFERENCE = "KL: the divergence from the model before unlearning, in place of the NLL"


# What is left at its default is left out of resolved settings: runs that never asked for it keep their
# identity.
def _is(default: object) -> Callable[[object], bool]:
    return lambda value: value == default


class TwoTerms(Block):
    """What every objective with a forget and a retain term has beside their settings."""

    forget_weight: Positive = Field(1.0, description="Weight of the forget term", exclude_if=_is(1.0))
    retain_loss_type: Literal["NLL", "KL"] = Field("NLL", description=REFERENCE, exclude_if=_is("NLL"))


class GradAscentSettings(Block):
    kind: Literal["GradAscent"]


class GradDiffSettings(TwoTerms):
    kind: Literal["GradDiff"]
    gamma: NonNegative = Field(1.0, description=RETAIN)


class KLSettings(Block):
    kind: Literal["KL"]
    forget_weight: Positive = Field(1.0, description="Weight of the forget term", exclude_if=_is(1.0))
    gamma: NonNegative = Field(1.0, description="Weight of the divergence on the retain set")


class POSettings(TwoTerms):
    kind: Literal["PO"]
    gamma: NonNegative = Field(1.0, description=RETAIN)


class RandomLabelsSettings(TwoTerms):
    kind: Literal["RandomLabels"]
    gamma: NonNegative = Field(1.0, description=f"{RETAIN}; SOUL's code has none (0)")


class DPOSettings(TwoTerms):
    kind: Literal["DPO"]
    beta: Positive = 0.1
    alpha: NonNegative = Field(1.0, description=RETAIN)
    alternatives: Literal["records", "refusals"] = Field(
        "records", description="What is preferred: the task's alternative answers, or its refusals"
    )


class IdkDPOSettings(TwoTerms):
    kind: Literal["IdkDPO"]
    beta: Positive = 0.1
    alpha: NonNegative = Field(1.0, description=RETAIN)


class AltPOSettings(TwoTerms):
    kind: Literal["AltPO"]
    beta: Positive = 0.1
    alpha: NonNegative = Field(1.0, description=RETAIN)


class NPOSettings(TwoTerms):
    kind: Literal["NPO"]
    beta: Positive = 0.1
    alpha: NonNegative = Field(1.0, description=RETAIN)


class SimNPOSettings(TwoTerms):
    """Defaults are those of the paper's code for TOFU forget10 with Llama-2-7B-chat."""

    kind: Literal["SimNPO"]
    beta: Positive = 4.5
    margin: NonNegative = Field(0.0, description="The paper's gamma, subtracted inside the sigmoid")
    forget_weight: Positive = Field(0.125, description="Weight of the forget term")
    alpha: NonNegative = Field(1.0, description=RETAIN)


class WGASettings(TwoTerms):
    kind: Literal["WGA"]
    beta: NonNegative = 1.0
    alpha: NonNegative = Field(1.0, description=RETAIN)


class SatImpSettings(TwoTerms):
    kind: Literal["SatImp"]
    beta1: NonNegative = Field(5.0, description="Exponent of p: saturation")
    beta2: NonNegative = Field(1.0, description="Exponent of 1 - p: importance")
    alpha: NonNegative = Field(0.1, description=RETAIN)


class UNDIALSettings(TwoTerms):
    kind: Literal["UNDIAL"]
    beta: NonNegative = Field(10.0, description="Taken from the true token's logit; 3 to 30 are usual")
    alpha: NonNegative = Field(0.0, description=f"{RETAIN}; the paper uses no retain set")
    positions: Literal["predicting", "all"] = Field(
        "predicting",
        description="Where the model is distilled: where an answer token is predicted, or, as in "
        "OpenUnlearning, at every token but padding",
        exclude_if=_is("predicting"),
    )


class CEUSettings(Block):
    kind: Literal["CEU"]
    skip_first_token: Switch = Field(True, description="Leave out the first token of each answer")


class PDUSettings(TwoTerms):
    """Defaults are those of the paper's runs on TOFU; it starts to change the weight after five epochs."""

    kind: Literal["PDU"]
    retain_bound: NonNegative = Field(
        0.3, description="Retain loss (nats a token) that is allowed; a little above the original model's"
    )
    dual_start: NonNegative = Field(100.0, description="Weight of the retain constraint at the start")
    dual_step: NonNegative = Field(5.0, description="Its change a step, for each nat of violation")
    dual_warmup: CountOrZero = Field(0, description="Steps before it changes")
    dual_update_upon: Literal["step", "epoch"] = Field(
        "step",
        description="When it changes; an epoch's change follows the mean of its steps' retain losses",
        exclude_if=_is("step"),
    )
    positions: Literal["predicting", "holding"] = Field(
        "predicting",
        description="Positions that count: those that predict an answer token, or, as in OpenUnlearning, "
        "those that hold one",
        exclude_if=_is("predicting"),
    )


class RMUSettings(Block):
    """Defaults are those of the paper for Zephyr-7B (32 layers); `layer` must exist in the model."""

    kind: Literal["RMU"]
    layer: CountOrZero = Field(7, description="Layer whose output is pushed, from 0")
    update_layers: CountOrAll = Field(
        3,
        description="How many layers' MLP outputs learn, the last of them `layer`; all: every weight that "
        "the loss reaches",
    )
    steering: Positive = Field(6.5, description="Length of the vector that is pushed to")
    alpha: NonNegative = Field(1200.0, description="Weight of the distance on the retain set")
    direction_seed: CountOrZero = Field(0, description="Draws the direction")
    positions: Literal["predicting", "holding"] = Field(
        "predicting",
        description="Positions that count: those that predict an answer token, or, as in OpenUnlearning, "
        "those that hold one",
        exclude_if=_is("predicting"),
    )
    forget_weight: Positive = Field(1.0, description="Weight of the forget term", exclude_if=_is(1.0))
    retain_loss_type: Literal["EMBED_DIFF", "NLL", "KL"] = Field(
        "EMBED_DIFF",
        description=f"EMBED_DIFF: the distance of hidden states from those before unlearning; {REFERENCE}",
        exclude_if=_is("EMBED_DIFF"),
    )


class L1SparseSettings(Block):
    kind: Literal["L1Sparse"]
    strength: NonNegative = Field(
        1e-6,
        description="Weight of the sum of absolute weights. The paper's 5e-4 is for networks of 1e7 weights; "
        "with 1e9 the norm of its gradient would be 16, so this default is ours",
    )


class TaskVectorSettings(Block):
    """`unlearn.epochs` and the optimiser say how long and how the model learns the forget set."""

    kind: Literal["TaskVector"]
    scale: Positive = Field(1.0, description="How much of the change is taken back, at the original model")


class WHPSettings(TwoTerms):
    """Defaults: the paper's for a book and Llama-2-7B-chat, but for `gamma`: it has no retain term."""

    kind: Literal["WHP"]
    alpha: Positive = Field(5.0, description="How far tokens that reinforcing made likelier are held down")
    gamma: NonNegative = Field(1.0, description=RETAIN)
    reinforce_epochs: Positive = Field(3.0, description="Of the forget set, by the reinforced model")
    reinforce_learning_rate: Positive = Field(3e-6, description="Of AdamW, for the reinforced model")


class InContextSettings(Block):
    kind: Literal["InContext"]
    instruction: str = Field(
        "Some of what you have learned has been withdrawn. If a question asks about particular people or "
        "texts, do not use what you remember of them: say that you do not know.",
        min_length=1,
        description="Stands before every prompt; what it names is no secret any more",
    )


ObjectiveSettings = Annotated[
    GradAscentSettings
    | GradDiffSettings
    | KLSettings
    | POSettings
    | RandomLabelsSettings
    | DPOSettings
    | IdkDPOSettings
    | AltPOSettings
    | NPOSettings
    | SimNPOSettings
    | WGASettings
    | SatImpSettings
    | UNDIALSettings
    | CEUSettings
    | PDUSettings
    | RMUSettings
    | L1SparseSettings
    | TaskVectorSettings
    | WHPSettings
    | InContextSettings,
    Field(discriminator="kind"),
]
