"""Representation misdirection: hidden states of the forget set are pushed to a random direction.

Shapes: B examples, T tokens, N answer tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

from pydantic import Field

from pipeline_lib.core.blocks import CountOrAll, CountOrZero, NonNegative, Positive
from pipeline_lib.core.errors import UserError
from pipeline_lib.models.layers import decoder_layers
from pipeline_lib.objectives.base import Batch, Losses, Tensor
from pipeline_lib.objectives.retain import POSITIONS, REFERENCE, Retaining, of_terms, option

# The matrix that leads out of the MLP: its name in Llama and relatives, OPT, GPT-J, GPT-NeoX and GPT-2.
MLP_OUTPUTS = {"down_proj", "fc2", "fc_out", "dense_4h_to_h", "c_proj"}


class RMU(Retaining):
    """L = forget_weight mean_t |h_f - c u|^2 / D + alpha mean_t |h_r - h_ref,r|^2 / D.

    Source: Li et al. 2024, arXiv 2403.03218, eq. 1 and 2 (its code divides by D too). h: what layer `layer`
    (from 0) gives to the stream, (D,) a token; h_ref: that of the model before unlearning, which runs too
    (`reference_model`); c: `steering`; u: a unit vector of entries uniform in [0, 1) before it is scaled,
    as in the paper, drawn from `direction_seed` and D alone and so the same in every process.

    Tokens: those that predict an answer token, as in every other objective, averaged over the step. The
    paper forgets running text and takes all tokens, which is the same here except for the last one. Prompts
    of questions are left alone, because the retain set has the same template. Padding never counts.
    `positions` "holding", as OpenUnlearning has it, takes the tokens that hold an answer token.

    Only the layers up to `layer` run, and only the MLP output matrices of the last `update_layers` of them
    learn; with "all" every weight that the loss reaches does. Nothing is predicted, so the log has no loss
    in nats. `retain_loss_type` "NLL" or "KL" puts that term (in nats) in place of the distance of hidden
    states; then the whole model runs on the retain set.

    Defaults are those of the paper for Zephyr-7B (32 layers); `layer` must exist in the model.
    """

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
    positions: Literal["predicting", "holding"] = option("predicting", POSITIONS)
    forget_weight: Positive = option(1.0, "Weight of the forget term")
    retain_loss_type: Literal["EMBED_DIFF", "NLL", "KL"] = option(
        "EMBED_DIFF",
        f"EMBED_DIFF: the distance of hidden states from those before unlearning; {REFERENCE}",
    )

    terms_apart: ClassVar[bool] = True

    @property
    def term(self) -> str:
        return self.retain_loss_type

    @property
    def read_sets(self) -> tuple[Literal["forget", "retain"], ...]:
        return () if self.retain_loss_type == "EMBED_DIFF" else ("retain",)

    @property
    def reference_depth(self) -> int | None:
        return self.layer + 1 if self.retain_loss_type == "EMBED_DIFF" else None

    @property
    def trained_outputs(self) -> int | None:
        return None if self.update_layers == "all" else min(self.update_layers, self.layer + 1)

    def loss_of(self, model: Any, forget: Batch | None, retain: Batch | None) -> Losses:
        import torch

        assert forget is not None and retain is not None
        kept = None
        if self.retain_loss_type == "EMBED_DIFF":
            with self._reference() as before, torch.no_grad():
                kept = self._states(before, retain)  # (N, D)
        pushed = self._states(model, forget)  # (N, D)
        target = self.steering * self.direction(pushed.shape[-1]).to(pushed)
        misdirection = (pushed - target).square().mean(-1).sum() / forget.tokens_in_step
        if kept is None:
            drift, retain_loss = self.retain_term(model, retain)
        else:
            held, retain_loss = self._states(model, retain), None  # (N, D)
            drift = (held - kept).square().mean(-1).sum() / retain.tokens_in_step
        return of_terms(self.forget_weight * misdirection, self.alpha * drift, None, retain_loss)

    def _states(self, model: Any, batch: Batch) -> Tensor:
        return hidden_states(model, batch, self.layer, self.positions).float()

    def direction(self, size: int) -> Tensor:
        """The unit vector u (size,), in fp64 on the CPU."""
        import torch

        generator = torch.Generator().manual_seed(self.direction_seed)
        drawn = torch.rand(size, generator=generator, dtype=torch.float64)
        return drawn / drawn.norm()

    def trainable(self, model: Any) -> list[str] | None:
        layers = _layers(model, self.layer)
        if self.trained_outputs is None:
            return None
        chosen = layers[self.layer + 1 - self.trained_outputs : self.layer + 1]
        inside = {
            id(parameter)
            for layer in chosen
            for name, parameter in layer.named_parameters()
            if MLP_OUTPUTS.intersection(name.split("."))
            and "attn" not in name  # GPT-2 calls the attention's output c_proj as well
            and not name.endswith("bias")
        }
        if not inside:
            found = sorted({name for name, _ in layers[self.layer].named_parameters()})
            raise UserError(
                f"RMU trains the output matrices of MLPs, named {', '.join(sorted(MLP_OUTPUTS))}; the layers "
                f"of {type(model).__name__} have only {', '.join(found)}. Choose another objective."
            )
        return [name for name, parameter in model.named_parameters() if id(parameter) in inside]


class _Reached(Exception):
    """Carries the hidden states out of a forward pass that has gone far enough."""

    def __init__(self, hidden: Tensor):
        self.hidden = hidden


def hidden_states(model: Any, batch: Batch, layer: int, positions: str = "predicting") -> Tensor:
    """What `layer` (from 0) gives at these positions of the answers, (N, D); later layers do not run."""
    from pipeline_lib.data.batching import IGNORED
    from pipeline_lib.models.forward import position_ids

    try:
        with _stop_after(_layers(model, layer)[layer]):
            model.get_decoder()(
                input_ids=batch.input_ids,
                attention_mask=batch.visible,
                position_ids=position_ids(batch.attention_mask),
                use_cache=False,
            )
    except _Reached as reached:
        answer = batch.labels != IGNORED  # (B, T)
        return reached.hidden[answer] if positions == "holding" else reached.hidden[:, :-1][answer[:, 1:]]
    raise ValueError(f"the forward pass of {type(model).__name__} went past layer {layer} without running it")


@contextmanager
def _stop_after(module: Any) -> Iterator[None]:
    def leave(_module, _inputs, output):
        raise _Reached(output[0] if isinstance(output, tuple) else output)

    handle = module.register_forward_hook(leave)
    try:
        yield
    finally:
        handle.remove()


def _layers(model: Any, layer: int) -> Any:
    """The decoder's list of layers, checked to have `layer`."""
    layers = decoder_layers(model, "RMU")
    if layer >= len(layers):
        raise UserError(
            f"RMU: `layer` is {layer}, but the model's layers are 0 to {len(layers) - 1}; choose one of them "
            "(the paper takes 7 of 32, about a quarter of the depth)"
        )
    return layers
