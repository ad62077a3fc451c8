"""What holds for every estimator: what counts, how a step may be cut, what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.curvature import ESTIMATORS
from pipeline_lib.curvature.base import StepData
from pipeline_lib.data.batching import IGNORED, Example, collate, micro_batches
from pipeline_lib.models.forward import answer_nll
from tests.curvature.cases import small_model
from tests.methods import estimator, make_objective
from tests.objectives.cases import CASES, alternatives_to, held, loss_and_gradient
from tests.tiny import Bigram, flat, in_float64, labels_without_chance, pad_right, random_examples, tiny_model

every_estimator = pytest.mark.parametrize("name", ESTIMATORS.kinds())
drawing = pytest.mark.parametrize("name", [name for name in ESTIMATORS.kinds() if name != "empirical_fisher"])
GRAD_DIFF = make_objective("GradDiff", gamma=0.7)


def generator(seed=7):
    return torch.Generator().manual_seed(seed)


def estimated(name, model, forget, retain, data="both", objective=GRAD_DIFF, seed=7, **options):
    parameters = list(model.parameters())
    return flat(
        estimator(name).estimate(
            model, objective, StepData(forget, retain, data), parameters, generator(seed), **options
        )
    )


@pytest.fixture
def no_chance(monkeypatch):
    """Drawn labels depend on how a step is cut; probes do not."""
    labels_without_chance(monkeypatch)


# --- micro-batches, padding, masked positions -----------------------------------------------------


@every_estimator
@in_float64()
def test_micro_batches_and_padding_change_nothing(name, no_chance):
    model, forget, retain = tiny_model(0, torch.float64), random_examples(6, 1), random_examples(6, 2)
    whole = estimated(name, model, [collate(forget, 0)], [collate(retain, 0)])
    assert whole.abs().max() > 0.1
    for size in (1, 4):
        found = estimated(name, model, micro_batches(forget, size, 0), micro_batches(retain, size, 0))
        assert torch.allclose(found, whole, rtol=1e-9, atol=1e-12)
    padded = [pad_right(collate(forget, 5), 7, 9)], [pad_right(collate(retain, 3), 2, 8)]
    assert torch.allclose(estimated(name, model, *padded), whole, rtol=1e-9, atol=1e-12)


@every_estimator
@in_float64()
def test_prompts_and_padding_contribute_nothing(name):
    """Tokens 0 and 1 stand in prompts and padding only: their rows of the table are never predicted from."""
    model = Bigram(torch.rand(6, 6, generator=generator()).add(0.1).tolist())
    prompts, answers = [(0, 1, 2), (1, 0, 0, 1, 3)], [(4, 5, 2), (5, 3)]  # the prompt's last token predicts
    examples = [Example((*prompts[row], *answers[row]), len(prompts[row]), row) for row in range(2)]
    batches = [collate(examples, 1)], [collate(examples[::-1], 0)]
    before = estimated(name, model, *batches)
    assert not before.view(6, 6)[:2].any()
    assert (before.view(6, 6)[[2, 3, 4, 5]].abs() > 0).all()
    with torch.no_grad():
        model.table[:2] = 50 * torch.randn(2, 6, generator=generator())
    assert torch.equal(estimated(name, model, *batches), before)


@every_estimator
def test_chance_is_the_generators_alone_and_gradients_stay(name):
    model, batch = tiny_model(), [collate(random_examples(4), 0)]
    for i, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, float(i)) if i else None
    first = estimated(name, model, batch, batch, seed=1)
    torch.rand(10)  # the global generator has no say
    assert torch.equal(estimated(name, model, batch, batch, seed=1), first)
    assert torch.equal(estimated(name, model, batch, batch, seed=2), first) == (name == "empirical_fisher")
    for i, parameter in enumerate(model.parameters()):
        assert parameter.grad is None if i == 0 else bool((parameter.grad == i).all())


@every_estimator
def test_a_parameter_that_is_not_used_has_no_curvature(name):
    model, unused = tiny_model(), torch.nn.Parameter(torch.ones(3))
    batch = [collate(random_examples(2), 0)]
    parameters = [*model.parameters(), unused]
    step = StepData(batch, batch, "both")
    found = estimator(name).estimate(model, GRAD_DIFF, step, parameters, generator())
    assert found[-1].tolist() == [0, 0, 0]
    assert [value.shape for value in found] == [parameter.shape for parameter in parameters]


@every_estimator
def test_estimates_under_bf16_compute_are_near_those_in_fp32(name):
    """Also through the double backward."""
    model = tiny_model().train()
    batches = [collate(random_examples(6, 1), 0)], [collate(random_examples(6, 2), 0)]
    exact = estimated(name, model, *batches)
    with torch.autocast("cpu", torch.bfloat16):
        found = estimated(name, model, *batches)
    assert found.dtype == torch.float32 and not torch.equal(found, exact)
    assert torch.corrcoef(torch.stack([found, exact]))[0, 1] > 0.9  # rounding changes drawn labels too


# --- data and objectives --------------------------------------------------------------------------


@drawing
@pytest.mark.parametrize("data", ["forget", "retain", "both"])
@in_float64()
def test_the_data_are_those_chosen(name, data, no_chance):
    """Whatever the objective: "both" is the two sets as one, each token counted once."""
    model, forget, retain = tiny_model(0, torch.float64), random_examples(4, 1), random_examples(5, 2)
    alone = {"forget": forget, "retain": retain, "both": [*forget, *retain]}[data]
    expected = estimated(name, model, [collate(alone, 0)], [], "forget")
    for objective in (GRAD_DIFF, make_objective("GradAscent")):
        found = estimated(
            name, model, micro_batches(forget, 2, 0), micro_batches(retain, 2, 0), data, objective
        )
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("objective", CASES)
@pytest.mark.parametrize(
    "name, data",
    [  # the empirical Fisher refuses the other two: tested below
        (name, data)
        for name in ESTIMATORS.kinds()
        for data in ("forget", "retain", "both")
        if data == "both" or name != "empirical_fisher"
    ],
)
def test_every_estimator_on_all_data_with_every_objective(name, data, objective):
    model, loss = tiny_model(), CASES[objective](held(tiny_model(1)))
    examples = random_examples(3, 1)
    forget = [collate(examples, 0, torch.ones(3), alternatives_to(examples))] if loss.uses_forget else []
    retain = [collate(random_examples(3, 2), 0)]
    if not forget and data == "forget":
        with pytest.raises(UserError, match="the forget batches of this step hold none"):
            estimated(name, model, forget, retain, data, loss)
        return
    found = estimated(name, model, forget, retain, data, loss)
    assert torch.isfinite(found).all() and found.abs().max() > 1e-3
    assert (found >= 0).all() == (not name.startswith("hutchinson"))


@pytest.mark.parametrize("objective", CASES)
@in_float64()
def test_the_empirical_fisher_is_n_times_the_squared_gradient_of_the_objective(objective):
    model, loss = tiny_model(0, torch.float64), CASES[objective](held(tiny_model(1, torch.float64)))
    examples, retained = random_examples(5, 1), random_examples(5, 2)
    reference = torch.linspace(2.0, 20.0, 5)
    alternatives = alternatives_to(examples)
    forget = micro_batches(examples, 2, 0, reference, alternatives)
    retain = micro_batches(retained, 2, 0)
    _, gradient = loss_and_gradient(loss, model, forget, retain)
    tokens = sum(e.answer_length for e in examples) if loss.uses_forget else 0
    if loss.uses_retain:
        tokens += sum(e.answer_length for e in retained)
    expected = tokens * gradient**2  # both sets are handed over, as in training: what is unused counts not
    assert expected.max() > 1e-3
    at_hand = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    found = [
        estimated("empirical_fisher", model, forget, retain, "both", loss),
        estimated("empirical_fisher", model, forget, retain, "both", loss, gradient=at_hand),
    ]
    for value in found:
        assert torch.allclose(value, expected, rtol=1e-9, atol=1e-14)


def test_the_gradient_at_hand_is_not_taken_again():
    def never(*_):
        raise AssertionError("a forward pass that is not needed")

    never.uses_forget = never.uses_retain = True
    model, batch = small_model(), [collate([Example((3, 4), 1, 0)], 0)]
    gradient = [None if i == 0 else torch.full_like(p, 2.0) for i, p in enumerate(model.parameters())]
    found = estimator("empirical_fisher").estimate(
        model,
        never,
        StepData(batch, batch, "both"),
        list(model.parameters()),
        generator(),
        gradient=gradient,
    )
    assert not found[0].any()
    assert all((value == 2 * 2.0**2).all() for value in found[1:])  # 2 tokens


@in_float64()
def test_drawn_labels_do_not_depend_on_how_the_step_is_cut():
    """One random number a position, in the order of the positions."""
    model, examples = tiny_model(0, torch.float64), random_examples(6, 1)
    found = [
        estimated("gauss_newton_bartlett", model, micro_batches(examples, size, 0), []) for size in (6, 4, 1)
    ]
    assert torch.allclose(found[1], found[0], rtol=1e-9, atol=1e-12)
    assert torch.allclose(found[2], found[0], rtol=1e-9, atol=1e-12)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("data", ["forget", "retain"])
def test_the_empirical_fisher_has_no_choice_of_data(data):
    batch = [collate(random_examples(2), 0)]
    with pytest.raises(UserError, match=f"`curvature_data` must be both; found '{data}'"):
        estimated("empirical_fisher", tiny_model(), batch, batch, data)


@every_estimator
def test_data_without_answers_are_refused(name):
    batch = collate(random_examples(2), 0)
    empty = [replace(batch, labels=torch.full_like(batch.labels, IGNORED))]
    with pytest.raises(UserError, match=f"{name} needs answer tokens .* hold none; choose other"):
        estimated(name, tiny_model(), empty, empty)


class OnceOnly(torch.autograd.Function):
    """A product with a backward pass that autograd cannot follow, as fused kernels have."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x * weight

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        return gradient * weight, (gradient * x).sum((0, 1))


class FusedNorm(torch.nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.weight = norm.weight

    def forward(self, hidden):
        return OnceOnly.apply(hidden, self.weight)


@pytest.mark.parametrize("name", ["hutchinson_rademacher", "hutchinson_gaussian"])
def test_a_forward_pass_without_second_derivative_is_refused(name):
    """The kernel that cannot lies between others that can: a product without its part would be wrong."""
    model, batch = tiny_model(), [collate(random_examples(2), 0)]
    model.model.norm = FusedNorm(model.model.norm)
    assert answer_nll(model, batch[0])[0].requires_grad
    with pytest.raises(UserError, match=r"LlamaForCausalLM cannot be .* twice.*gauss_newton_bartlett or"):
        estimated(name, model, batch, batch)
    assert all(parameter.grad is None for parameter in model.parameters())
    for other in ("gauss_newton_bartlett", "empirical_fisher"):
        assert torch.isfinite(estimated(other, model, batch, batch)).all()


@in_float64()
def test_hutchinson_is_the_same_with_fused_and_plain_attention():
    model, batch = tiny_model(0, torch.float64), [collate(random_examples(4), 0)]
    assert model.config._attn_implementation == "sdpa"
    fused = estimated("hutchinson_rademacher", model, batch, batch)
    model.set_attn_implementation("eager")  # its softmax is in fp32
    plain = estimated("hutchinson_rademacher", model, batch, batch)
    assert float((plain - fused).norm() / fused.norm()) < 1e-5


def test_attention_of_another_library_is_refused():
    """Its backward pass may look like a constant to autograd: products would be wrong without an error."""
    model, batch = tiny_model(), [collate(random_examples(2), 0)]
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(UserError, match=r"LlamaForCausalLM cannot be .* twice.*flash_attention_2"):
        estimated("hutchinson_gaussian", model, batch, batch)


def test_another_error_is_passed_on():
    model, batch = tiny_model(), [collate(random_examples(2), 0)]

    def full(_gradient):
        raise RuntimeError("out of memory")

    next(model.parameters()).register_hook(full)
    with pytest.raises(RuntimeError, match="out of memory"):
        estimated("hutchinson_gaussian", model, batch, batch)
