"""What theory says about each objective: limits, bounds, gradients that are known, relations."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from pipeline_lib.data.batching import Alternative, collate
from pipeline_lib.models.forward import summed_nll
from tests.methods import make_objective
from tests.objectives.cases import CASES, alternatives_to, held, loss_and_gradient
from tests.tiny import Bigram, flat, in_float64, make_examples, random_examples, tiny_model

LN2 = math.log(2)
close = partial(pytest.approx, rel=1e-12, abs=1e-12)
near = partial(torch.allclose, rtol=1e-9, atol=1e-12)
PAIRS = [("DPO", {"alternatives": "records"}), ("IdkDPO", {}), ("AltPO", {})]


@pytest.fixture
def step():
    """(model, forget batch, retain batch) in fp64."""
    return tiny_model(0, torch.float64), collate(random_examples(4, 1), 0), collate(random_examples(4, 2), 0)


def run(kind, step, **settings):
    """(losses, gradient) of one call."""
    model, forget, retain = step
    objective = make_objective(kind, **settings)
    return loss_and_gradient(objective, model, [forget], [retain])


def at_the_reference(step):
    model, forget, retain = step
    return model, replace(forget, reference_nll=summed_nll(model, forget).detach()), retain


@in_float64()
def test_npo_tends_to_ascent_on_the_summed_nll_of_an_example(step):
    model, forget, retain = step
    step = model, replace(forget, reference_nll=torch.tensor([1.0, 5.0, 9.0, 30.0])), retain
    ascent = run("GradAscent", step)[1] * forget.answer_tokens / 4  # mean of a token -> of an example's sum
    errors = []
    for beta in (1e-2, 1e-3, 1e-4):
        gradient = run("NPO", step, beta=beta, alpha=0.0)[1]
        errors.append(float((gradient - ascent).norm() / ascent.norm()))
    assert errors[2] < 1e-2
    assert errors[0] > 5 * errors[1] > 25 * errors[2]  # first order in beta


@in_float64()
def test_simnpo_tends_to_ascent_on_the_mean_of_token_means(step):
    model, _, retain = step
    means = [collate([example], 0) for example in random_examples(4, 1)]
    ascent = sum(run("GradAscent", (model, mean, retain))[1] for mean in means) / 4
    errors = []
    for beta in (1e-1, 1e-2, 1e-3):
        gradient = run("SimNPO", step, beta=beta, margin=0.0, forget_weight=1.0, alpha=0.0)[1]
        errors.append(float((gradient - ascent).norm() / ascent.norm()))
    assert errors[2] < 1e-2
    assert errors[0] > 5 * errors[1] > 25 * errors[2]


@in_float64()
def test_simnpo_is_npo_with_the_margin_as_reference_where_answers_have_one_length(step):
    model, _, retain = step
    forget = collate(make_examples([(2, 5), (4, 5)], 3), 0, torch.tensor([1.5, 1.5]))  # 0.3 nats a token
    # beta lm - margin = (beta / 5) (l - 5 margin / beta), and 2 / beta = (2 / (beta / 5)) / 5
    npo = run("NPO", (model, forget, retain), beta=0.4, alpha=0.0)
    simnpo = run("SimNPO", (model, forget, retain), beta=2.0, margin=0.6, forget_weight=5.0, alpha=0.0)
    assert simnpo[0]["total"] == close(npo[0]["total"])
    assert near(simnpo[1], npo[1])


@pytest.mark.parametrize("beta", [0.05, 0.1, 4.0])
@in_float64()
def test_npo_at_the_reference_is_two_over_beta_log_two(step, beta):
    found = run("NPO", at_the_reference(step), beta=beta, alpha=0.0)
    assert found[0]["total"] == close(2 / beta * LN2)
    assert near(found[1], run("GradAscent", step)[1] * step[1].answer_tokens / 4)


@pytest.mark.parametrize(("kind", "more"), PAIRS)
@in_float64()
def test_pairs_with_equal_sides_have_no_gradient(step, kind, more):
    model, forget, retain = at_the_reference(step)
    found = run(kind, (model, replace(forget, alternative=forget), retain), beta=0.1, alpha=0.0, **more)
    assert found[0]["total"] == close(-(2 / 0.1) * math.log(1 / 2))
    assert float(found[1].abs().max()) < 1e-12


@pytest.mark.parametrize(("kind", "more"), PAIRS)
@in_float64()
def test_pairs_at_the_reference_pull_one_side_up_and_push_the_other_down(step, kind, more):
    """There sigmoid is 1/2 in every pair, so the gradient is that of l' - l, a mean over examples."""
    model, forget, retain = at_the_reference(step)
    others = [a.example for a in alternatives_to(random_examples(4, 1))]
    other = collate(others, 0)
    other = replace(other, reference_nll=summed_nll(model, other).detach())
    found = run(kind, (model, replace(forget, alternative=other), retain), beta=0.1, alpha=0.0, **more)
    up = run("FineTuning", (model, None, other))[1] * other.answer_tokens / 4
    down = run("GradAscent", step)[1] * forget.answer_tokens / 4
    assert near(found[1], up + down)


@in_float64()
def test_pairs_whose_alternative_never_moves_are_npo(step):
    """An alternative that the model gives with certainty, then as now, leaves NPO."""
    # After 2 and 3 token 1 is certain, and nothing that follows 0 is.
    certain = [1e-300, 1, 1e-300, 1e-300]
    table = [[1 / 2, 1 / 4, 1 / 8, 1 / 8], [1 / 4] * 4, certain, certain]
    examples = make_examples([(2, 2)], 0)
    forget = [replace(examples[0], tokens=(3, 2, 0, 1))]
    others = [Alternative(replace(examples[0], tokens=(3, 2, 1)), 0.0)]
    batch = collate(forget, 0, torch.tensor([7.0]), others)
    step = Bigram(table), batch, collate(forget, 0)
    pairs, npo = (run(kind, step, beta=0.3, alpha=0.5) for kind in ("IdkDPO", "NPO"))
    assert pairs[0] == {name: close(value) for name, value in npo[0].items()}
    assert near(pairs[1], npo[1])


@in_float64()
def test_weights_of_exponent_zero_are_ascent(step):
    ascent = run("GradAscent", step)
    for kind, zero in (("WGA", {"beta": 0.0}), ("SatImp", {"beta1": 0.0, "beta2": 0.0})):
        found = run(kind, step, alpha=0.0, **zero)
        assert found[0]["total"] == close(ascent[0]["total"])
        assert near(found[1], ascent[1])
    wga = run("WGA", step, beta=1.3, alpha=0.4)
    satimp = run("SatImp", step, beta1=1.3, beta2=0.0, alpha=0.4)
    assert satimp[0]["total"] == close(wga[0]["total"])
    assert near(satimp[1], wga[1])


@in_float64()
def test_weights_leave_alone_what_is_known_by_heart_or_forgotten():
    """The gradient in the logits is weight * (p - onehot): SatImp fades at both ends, WGA at one."""

    def gradient(kind, p, **settings):
        rest = (1 - p) / 3
        model = Bigram([[p, rest, rest, rest]] * 4)
        example = [replace(make_examples([(1, 1)])[0], tokens=(1, 0))]
        batch = collate(example, 0)
        return float(run(kind, (model, batch, batch), alpha=0.0, **settings)[1][4].abs())

    for p in (1e-4, 0.3, 1 - 1e-6):
        expected = (1 - p) * p**5 * (1 - p)
        assert gradient("SatImp", p, beta1=5.0, beta2=1.0) == pytest.approx(expected, rel=1e-6)
        assert gradient("WGA", p, beta=1.0) == pytest.approx((1 - p) * p, rel=1e-6)


@in_float64()
def test_kl_to_the_model_itself_is_zero_and_has_no_gradient(step):
    itself = tiny_model(0, torch.float64)
    found = run("KL", step, gamma=1e3, reference_model=held(itself))
    ascent = run("GradAscent", step)
    assert found[0]["total"] == close(ascent[0]["total"])
    assert float((found[1] - ascent[1]).abs().max()) < 1e-11
    assert all(parameter.grad is None for parameter in itself.parameters())


@in_float64()
def test_undial_with_nothing_taken_off_has_no_gradient_at_the_reference(step):
    itself = tiny_model(0, torch.float64)
    for beta, still in ((0.0, True), (3.0, False)):
        found = run("UNDIAL", step, beta=beta, alpha=0.0, reference_model=held(itself))
        assert (float(found[1].abs().max()) < 1e-12) == still
    assert all(parameter.grad is None for parameter in itself.parameters())


@in_float64()
def test_undial_lowers_the_true_token_by_what_the_reference_lost(step):
    """At the reference the gradient in the logit of the true token is p - q, q with beta taken off."""
    model = Bigram([[1 / 2, 1 / 4, 1 / 8, 1 / 8]] * 4)
    batch = collate([replace(make_examples([(1, 1)])[0], tokens=(1, 0))], 0)
    settings = {"beta": math.log(3), "alpha": 0.0, "reference_model": held(model)}
    gradient = run("UNDIAL", (model, batch, batch), **settings)[1].view(4, 4)[1]
    assert gradient.tolist() == [close(1 / 2 - 1 / 4), close(1 / 4 - 3 / 8), *[close(1 / 8 - 3 / 16)] * 2]


@in_float64()
def test_the_gradient_of_ceu_in_the_logits():
    """p at the true token, -p_k p / (1 - p) at the others: bounded wherever p lies, and fading with it."""
    batch = collate([replace(make_examples([(1, 1)])[0], tokens=(1, 0))], 0)
    for p in (1 - 1e-9, 1 / 2, 1e-9):
        rest = [(1 - p) * share for share in (1 / 2, 1 / 3, 1 / 6)]
        step = Bigram([[p, *rest]] * 4), batch, None
        gradient = run("CEU", step, skip_first_token=False)[1].view(4, 4)[1]
        expected = [p, *(-k * p / (1 - p) for k in rest)]
        assert gradient.tolist() == [pytest.approx(value, rel=1e-6) for value in expected]


@in_float64()
def test_pdu_without_a_dual_is_the_spread_alone_and_flat_logits_are_its_minimum(step):
    settings = {"dual_step": 1.0, "dual_warmup": 0}
    alone = run("PDU", step, retain_bound=9.0, dual_start=0.0, **settings)
    both = run("PDU", step, retain_bound=0.4, dual_start=2.0, **settings)
    retain = run("FineTuning", step)
    assert both[0]["total"] == close(alone[0]["total"] + 2 * (retain[0]["total"] - 0.4))
    assert near(both[1], alone[1] + 2 * retain[1])
    batch = collate(make_examples([(1, 1)]), 0)
    batch = replace(batch, input_ids=batch.input_ids % 4, labels=batch.labels.clamp(max=3))
    flat_logits = Bigram([[1 / 4] * 4] * 4), batch, batch
    found = run("PDU", flat_logits, retain_bound=0.0, dual_start=0.0, **settings)
    assert found[0]["total"] == close(0)
    assert not found[1].any()


@in_float64()
def test_l1_is_fine_tuning_and_a_push_of_one_size_to_zero(step):
    model = step[0]
    plain = run("FineTuning", step)
    without = run("L1Sparse", step, strength=0.0)
    assert without[0] == {name: None if v is None else close(v) for name, v in plain[0].items()}
    assert near(without[1], plain[1])
    pushed = run("L1Sparse", step, strength=0.2)
    assert near(pushed[1], plain[1] + 0.2 * flat(list(model.parameters())).sign())


@in_float64()
def test_l1_looks_at_what_learns_alone(step):
    model = step[0]
    model.requires_grad_(False)
    model.model.norm.weight.requires_grad_(True)
    found = run("L1Sparse", step, strength=0.2)[0]
    norm = float(model.model.norm.weight.abs().sum().detach())
    assert found["total"] == close(found["retain"] + 0.2 * norm)


@in_float64()
def test_relations_between_objectives(step):
    model, forget, _ = step
    ascent, plain = run("GradAscent", step), run("FineTuning", step)
    difference = run("GradDiff", step, gamma=0.3)
    assert difference[0]["total"] == close(ascent[0]["total"] + 0.3 * plain[0]["total"])
    assert near(difference[1], ascent[1] + 0.3 * plain[1])
    # PO without the retain term is the plain NLL of what the forget batch holds: refusals.
    refusals = run("FineTuning", (model, None, forget))
    for kind in ("PO", "RandomLabels"):
        found = run(kind, step, gamma=0.0)
        assert found[0]["total"] == close(refusals[0]["total"])
        assert near(found[1], refusals[1])


@pytest.mark.parametrize("name", CASES)
def test_what_an_objective_needs_and_did_not_get_is_an_error(step, name):
    model, forget, retain = step
    bare = CASES[name](None)
    needs = []
    if bare.forget_answers == "both":
        needs.append(("alternative", {"alternative": forget}))
    if bare.needs_reference_nll:
        needs.append(("reference_nll", {"reference_nll": torch.ones(4)}))
    if bare.needs_reference_model:
        needs.append(("reference_model", None))
    for what, given in needs:
        with pytest.raises(ValueError, match=f"{bare.kind} needs .*{what}"):
            bare(model, forget, retain)
        if given is None:
            bare = CASES[name](held(model))
        else:
            forget = replace(forget, **given)
            if forget.alternative is not None and forget.reference_nll is not None:
                with pytest.raises(ValueError, match="reference_nll"):  # that of the alternative
                    bare(model, forget, retain)
                forget = replace(forget, alternative=forget)
    assert torch.isfinite(bare(model, forget, retain).total)
