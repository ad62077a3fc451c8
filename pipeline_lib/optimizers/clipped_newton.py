"""What both forms of Sophia share: the states, what is told of a step, and the controls.

m is the average of the gradient, h that of the diagonal curvature estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pipeline_lib.core.blocks import CountOrZero, Faults, Switch
from pipeline_lib.core.runs import Order
from pipeline_lib.curvature.arranged import Arrangement
from pipeline_lib.optimizers.base import Elementwise
from pipeline_lib.optimizers.update import Group, Groups, TorchOptimizer, Watch

# A step that keeps something of Sophia's and loses the rest: whether the rest is what matters.
Control = Literal["permuted_curvature", "mean_curvature", "sign_of_equal_norm"]
ARRANGED: dict[str, Literal["permuted", "mean"]] = {
    "permuted_curvature": "permuted",
    "mean_curvature": "mean",
}


# Left out of the resolved settings, so that runs that never asked for it keep their identity.
def _unset(value: object) -> bool:
    return value is None or value is False


class ClippedNewton(Elementwise):
    """A step lr clip(m / (a multiple of h), 1), plain or as one of the controls.

    `control` takes something from the step and leaves the rest (ours, not in the papers):

    - permuted_curvature: the values of h change places within each tensor, by one permutation for the run;
    - mean_curvature: every value of h becomes the mean of its tensor;
    - sign_of_equal_norm: theta = (1 - lr wd) theta - c sign(m), with one c for all coordinates, such that the
      L2 norm over all tensors is that of the step that Sophia would take from the same state.

    h is arranged as it is averaged, estimate by estimate. That is the same, because averages are linear.
    """

    control: Control | None = Field(
        None,
        description="What the step loses, to see whether that matters; the plain step where left out",
        exclude_if=_unset,
    )
    permutation_seed: CountOrZero | None = Field(
        None,
        description="With `control: permuted_curvature` only; the run's seed where left out",
        exclude_if=_unset,
    )
    diagnostics: Switch = Field(
        False,
        description="Log the cosines of each step with Signum's and with AdamW's from the same state; one "
        "more value a parameter, and one more pass over the states; the steps stay the same to the bit",
        exclude_if=_unset,
    )

    order: ClassVar[Order] = "SO"
    states: ClassVar[tuple[str, ...]] = ("momentum", "curvature")

    @model_validator(mode="after")
    def _seed_is_used(self) -> ClippedNewton:
        if self.permutation_seed is not None and self.control != "permuted_curvature":
            found = "left out" if self.control is None else self.control
            line = f"goes with `control: permuted_curvature`, and `control` is {found}"
            raise Faults([("permutation_seed", line)])
        return self

    def seeded(self, seed: int) -> Self:
        """Each seed of a study permutes in a way of its own, so that seeds repeat the control."""
        drawn = self.control == "permuted_curvature" and self.permutation_seed is None
        return self.model_copy(update={"permutation_seed": seed}) if drawn else self

    @property
    def needs_fp32(self) -> str | None:  # type: ignore[override]
        if self.control != "sign_of_equal_norm":
            return None
        return "its steps have one length for all coordinates, known only after a look at all of them"

    @property
    def control_of(self) -> str | None:  # type: ignore[override]
        return None if self.control is None else self.kind

    @property
    def arrangement(self) -> Arrangement | None:
        """What its control does to h."""
        how = ARRANGED.get(self.control or "")
        return None if how is None else Arrangement(how, self.permutation_seed or 0)

    @property
    def watch(self) -> Watch | None:
        if not self.diagnostics:
            return None
        from pipeline_lib.optimizers.watching import watch_of

        return watch_of(type(self).update)

    def settings(self) -> dict[str, Any]:
        """Beside the settings of the step, how many steps were watched."""
        kept = {k: v for k, v in super().settings().items() if k not in ClippedNewton.model_fields}
        return {**kept, "watched": 0} if self.diagnostics else kept

    def statistics(self, groups: Groups, sums: Sequence[float], coordinates: int) -> dict[str, float]:
        """`clipped_norm_share` is missing where nothing moves, as the cosines are."""
        squares, clipped = sums[:2]
        found = super().statistics(groups, sums, coordinates) | {"clipped_share": clipped / coordinates}
        sign = self.control == "sign_of_equal_norm"
        if squares > 0:  # a clipped coordinate moves by lr; under the control all that move have one length
            whole = sums[2] if sign else squares / groups[0]["lr"] ** 2
            found["clipped_norm_share"] = min(clipped / whole, 1.0)
        if self.diagnostics:
            from pipeline_lib.optimizers.watching import SUMS, cosines

            found |= cosines(sums[-SUMS:], sign)
            for group in groups:
                group["watched"] += 1
        return found

    def build(self, groups: Groups, parts: Group) -> TorchOptimizer:
        if self.control == "sign_of_equal_norm":
            from pipeline_lib.optimizers.sophia_controls import SignOfEqualNorm

            return SignOfEqualNorm(groups, self, parts.over_parts)
        return super().build(groups, parts)
