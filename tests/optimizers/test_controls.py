"""What each control keeps of Sophia's step and what it takes away, by hand and from a checkpoint."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.curvature.arranged import Arrangement
from pipeline_lib.distributed.group import ALONE, Group
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.optimizers.make import make_optimizer as made_of
from pipeline_lib.training import checkpoint
from tests.methods import stepper
from tests.optimizers.kinds import CONTROLS, SETTINGS, SOPHIAS, optimizer_of, take_step
from tests.tiny import flat, tiny_model

RELEASED = {"beta1": 0.5, "beta2": 0.5, "rho": 1 / 2560, "weight_decay": 0.5}  # rho 5120 = 2
PUBLISHED = {"beta1": 0.5, "beta2": 0.5, "gamma": 0.5, "eps": 1e-3, "weight_decay": 0.5}


def vector(*values: float) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor(values, dtype=torch.float64))


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def arranged(how, values, seed=0, number=0):
    return Arrangement(how, seed).of(values, values, number, ALONE)


# --- arrangements -----------------------------------------------------------------------------------


def test_a_permutation_keeps_the_values_and_follows_from_seed_and_number():
    values = torch.arange(35.0).reshape(5, 7)
    found = arranged("permuted", values)
    assert found.shape == (5, 7) and sorted(found.flatten().tolist()) == list(range(35))
    assert (found == values).float().mean() < 0.3
    torch.manual_seed(9)  # no chance of others has a say
    assert torch.equal(arranged("permuted", values), found)
    assert torch.equal(arranged("permuted", 2 * values), 2 * found), "the same places for other values"
    others = [arranged("permuted", values, 1), arranged("permuted", values, 0, 1)]
    assert not any(torch.equal(other, found) for other in others)


@pytest.mark.parametrize("how", ["permuted", "mean"])
def test_processes_with_parts_of_a_tensor_arrange_the_whole(how):
    values = torch.arange(12.0).reshape(4, 3)

    class Part(Group):
        def __init__(self, rank):
            self.rank = rank

        def whole(self, parameter, part):
            assert torch.equal(part, values.chunk(2)[self.rank])
            return values

        def part(self, parameter, whole):
            return whole.chunk(2)[self.rank]

    parts = [Arrangement(how, 2).of(values.chunk(2)[i], values, 1, Part(i)) for i in (0, 1)]
    assert torch.equal(torch.cat(parts), arranged(how, values, 2, 1))


def test_a_mean_stands_everywhere():
    found = arranged("mean", torch.tensor([[1.0, 2.0], [6.0, 7.0]]))
    assert torch.equal(found, torch.full((2, 2), 4.0))


def test_what_a_suite_asks_for_reaches_the_curvature():
    made = {"kind": "sophia", "learning_rate": 1.0}
    assert OPTIMIZERS.parse(made).curvature.arrangement is None
    assert OPTIMIZERS.parse({**made, "control": "sign_of_equal_norm"}).curvature.arrangement is None
    mean = OPTIMIZERS.parse({**made, "control": "mean_curvature"})
    assert mean.curvature.arrangement == Arrangement("mean", 0)
    permuted = OPTIMIZERS.parse({**made, "control": "permuted_curvature", "permutation_seed": 5})
    assert permuted.curvature.arrangement == Arrangement("permuted", 5)
    assert permuted.seeded(7).curvature.arrangement == Arrangement("permuted", 5)
    of_run = OPTIMIZERS.parse({**made, "control": "permuted_curvature"})
    assert [of_run.seeded(n).curvature.arrangement.seed for n in (0, 7)] == [0, 7]
    assert mean.seeded(7) == mean


@pytest.mark.parametrize("kind", SOPHIAS)
@pytest.mark.parametrize("control", [None, "mean_curvature", "sign_of_equal_norm"])
def test_a_seed_without_a_permutation_is_refused(kind, control):
    settings = {"kind": kind, "learning_rate": 1.0, "control": control, "permutation_seed": 0}
    found = control or "left out"
    with pytest.raises(UserError, match=f"permutation_seed: goes with .* `control` is {found}"):
        OPTIMIZERS.parse(settings)


# --- the released form: squares are arranged before they are averaged --------------------------------------


def test_mean_curvature_of_the_released_form_by_hand():
    theta = vector(1.0, 1.0, 1.0)
    optimizer = stepper("sophia_as_released", [theta], lr=0.1, control="mean_curvature", **RELEASED)
    # g^2 = (4, 1, 1), mean 2, h = 1, denominator 2; m = 3/4 g = (1.5, -0.75, 0.75)
    # ratio = (0.75, -0.375, 0.375)
    theta.grad = tensor(2.0, -1.0, 1.0)
    optimizer.step()
    assert theta.tolist() == pytest.approx([0.95 - 0.075, 0.95 + 0.0375, 0.95 - 0.0375])
    assert optimizer.state[theta]["curvature"].tolist() == [1.0] * 3
    assert optimizer.statistics["clipped_share"] == 0.0 == optimizer.statistics["clipped_norm_share"]
    # h = (1 + mean (0, 0, 9)) / 2 = 2, denominator 4; m = m / 4 + 3/4 g = (0.375, -0.1875, 2.4375)
    theta.grad = tensor(0.0, 0.0, 3.0)
    before = theta.tolist()
    optimizer.step()
    moves = [0.1 * m / 4 for m in (0.375, -0.1875, 2.4375)]
    assert theta.tolist() == pytest.approx([0.95 * b - m for b, m in zip(before, moves, strict=True)])


def test_permuted_curvature_of_the_released_form_divides_by_that_of_other_coordinates():
    theta = vector(1.0, 1.0, 1.0, 1.0)
    settings = {**RELEASED, "control": "permuted_curvature", "permutation_seed": 3}
    optimizer = stepper("sophia_as_released", [theta], lr=0.1, **settings)
    theta.grad = tensor(2.0, 4.0, 3.0, 1.0)
    optimizer.step()
    squares = arranged("permuted", tensor(4.0, 16.0, 9.0, 1.0), seed=3)
    assert squares.tolist() != [4.0, 16.0, 9.0, 1.0]
    # h = squares / 2, denominator = squares, m = 3/4 g
    ratio = (0.75 * theta.grad / squares).clamp(-1, 1)
    assert torch.allclose(theta.detach(), 0.95 - 0.1 * ratio, rtol=1e-12)
    assert torch.equal(optimizer.state[theta]["curvature"], squares / 2)


@pytest.mark.parametrize("kind", SOPHIAS)
def test_without_differences_between_coordinates_an_arrangement_changes_nothing(kind):
    found = []
    for control in (None, "permuted_curvature", "mean_curvature"):
        theta = vector(1.0, 2.0, 3.0)
        given = {**SETTINGS[kind], "control": control}
        optimizer = stepper(kind, [theta], lr=0.1, **given)
        for size in (0.3, 0.01, 2.0):
            if kind == "sophia":  # as the training loop hands it over: arranged
                optimizer.update_curvature([torch.full_like(theta, size**2)])
            theta.grad = tensor(size, -size, size)
            optimizer.step()
        found.append(theta.detach())
    assert all(torch.allclose(other, found[0], rtol=1e-14) for other in found[1:])


def test_bf16_squares_are_averaged_in_fp32_and_rounded_once():
    theta = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer = stepper("sophia_as_released", [theta], lr=0.1, control="mean_curvature", **RELEASED)
    theta.grad = torch.tensor([1.0078125, 1.015625, 1.0], dtype=torch.bfloat16)
    optimizer.step()
    mean = theta.grad.double().square().mean()
    expected = (mean / 2).float().bfloat16()
    assert optimizer.state[theta]["curvature"].tolist() == [float(expected)] * 3


# --- signs of equal norm --------------------------------------------------------------------------------


def test_sign_of_equal_norm_by_hand():
    theta = vector(1.0, 1.0, 1.0, 1.0, 1.0)
    optimizer = stepper("sophia", [theta], lr=0.1, control="sign_of_equal_norm", **PUBLISHED)
    optimizer.update_curvature([tensor(4.0, 1.0, 1.0, 0.0, 1.0)])
    # As in the test of Sophia: ratio (0.1, 1, -1, -0.1), here with a coordinate that has no momentum.
    # The norm 0.1 sqrt(2.02) over four coordinates is 0.1 sqrt(0.505) each.
    theta.grad = tensor(0.2, 4.0, -4.0, -2e-4, 0.0)
    optimizer.step()
    c = 0.1 * 0.505**0.5
    assert theta.tolist() == pytest.approx([0.95 - c, 0.95 - c, 0.95 + c, 0.95 + c, 0.95])
    assert optimizer.statistics["update_norm"] == pytest.approx(0.1 * 2.02**0.5)
    assert optimizer.statistics["clipped_share"] == 2 / 5  # of Sophia
    assert optimizer.statistics["clipped_norm_share"] == 2 / 4  # of the step that is taken


def test_where_nothing_moves_weights_decay_and_nothing_is_said_of_shares():
    theta = vector(1.0, 2.0)
    for kind, given in (("sophia", PUBLISHED), ("sophia_as_released", RELEASED)):
        for control in (None, "sign_of_equal_norm"):
            theta = vector(1.0, 2.0)
            optimizer = stepper(kind, [theta], lr=0.1, control=control, diagnostics=True, **given)
            theta.grad = tensor(0.0, 0.0)
            optimizer.step()
            assert theta.tolist() == pytest.approx([0.95, 1.9])
            assert not {"clipped_norm_share", "cosine_signum", "cosine_adamw"} & set(optimizer.statistics)


@pytest.mark.parametrize("kind", SOPHIAS)
def test_its_norm_over_all_tensors_is_that_of_sophias_own_step(kind):
    """From the same state: after each step both go on from the weights and states of the control."""
    model, other = tiny_model(), tiny_model()
    given = {**SOPHIAS[kind], "weight_decay": 0.0}
    controlled = optimizer_of(kind, model, control="sign_of_equal_norm", **given)
    plain = optimizer_of(kind, other, **given)
    for step in range(4):
        other.load_state_dict(model.state_dict())
        before = flat(list(model.parameters())).double()
        take_step(controlled, model, step)
        take_step(plain, other, step)
        ours, theirs = (flat(list(m.parameters())).double() - before for m in (model, other))
        assert controlled.statistics["update_norm"] == pytest.approx(
            plain.statistics["update_norm"], rel=1e-6
        )
        assert float(ours.norm()) == pytest.approx(float(theirs.norm()), rel=1e-5)  # of rounded weights
        lengths = ours.abs()[ours != 0]
        assert float(lengths.max()) == pytest.approx(float(lengths.mean()), rel=1e-3)
        assert float((lengths > 0).sum()) == pytest.approx(len(ours), rel=0.01)
        assert controlled.statistics["clipped_share"] == plain.statistics["clipped_share"] < 1
        for one, two in zip(controlled.state.values(), plain.state.values(), strict=True):
            assert all(torch.equal(one[name], two[name]) for name in two)


def test_the_norms_agree_to_six_digits():
    """In fp64, where weights round nothing."""
    found = {}
    for control in (None, "sign_of_equal_norm"):
        thetas = [vector(*torch.linspace(-1, 1, 50).tolist()), vector(0.3, -4.0)]
        before = torch.cat([theta.detach().clone() for theta in thetas])
        optimizer = stepper("sophia_as_released", thetas, lr=1e-3, control=control, **RELEASED)
        for number, theta in enumerate(thetas):
            draw = torch.Generator().manual_seed(number)
            theta.grad = torch.randn(len(theta), generator=draw, dtype=torch.float64)
        for group in optimizer.param_groups:
            group["weight_decay"] = 0.0
        optimizer.step()
        found[control] = float((torch.cat([theta.detach() for theta in thetas]) - before).norm())
    assert found["sign_of_equal_norm"] == pytest.approx(found[None], rel=1e-6)


@pytest.mark.parametrize("control", [None, "sign_of_equal_norm"])
def test_processes_with_parts_of_all_tensors_take_the_step_of_the_whole(control):
    """Two parts with the same values: the sums over all are twice those of one."""

    class Twice(Group):
        def over_parts(self, numbers):
            return [2 * number for number in numbers]

    method = OPTIMIZERS.parse(
        {"kind": "sophia_as_released", "learning_rate": 0.1, "control": control, "diagnostics": True}
    )
    half, whole = vector(1.0, 2.0, 3.0), vector(1.0, 2.0, 3.0, 1.0, 2.0, 3.0)
    gradient = tensor(1e-3, 2.0, -1.0)
    found = []
    for theta, group in ((half, Twice()), (whole, ALONE)):
        optimizer = method.build([{"params": [theta]}], group)
        theta.grad = gradient if theta is half else torch.cat([gradient, gradient])
        optimizer.step()
        found.append(optimizer.statistics)
    assert whole.tolist() == half.tolist() * 2
    assert found[0] == pytest.approx(found[1])


def test_bf16_weights_in_blocks_are_refused():
    given = {"kind": "sophia", "learning_rate": 1.0, "control": "sign_of_equal_norm"}
    method = OPTIMIZERS.parse(given)
    assert method.needs_fp32 is not None
    assert OPTIMIZERS.parse({**given, "control": "mean_curvature"}).needs_fp32 is None
    with pytest.raises(UserError, match="one length for all coordinates"):
        made_of(method, tiny_model(dtype=torch.bfloat16), stochastic_rounding=True)


# --- all of them ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SOPHIAS)
@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("weights", ["fp32", "bf16_stochastic"])
def test_a_run_from_a_checkpoint_has_the_same_bits(kind, control, weights, tmp_path):
    rounded = weights != "fp32"
    if rounded and control == "sign_of_equal_norm":
        return  # refused above

    def start():
        model = tiny_model(dtype=torch.bfloat16 if rounded else torch.float32)
        settings = {"control": control, "diagnostics": True, "stochastic_rounding": rounded}
        return model, optimizer_of(kind, model, **settings)

    whole, optimizer = start()
    kept = checkpoint.Kept(tmp_path / "c", "mark")
    for step in range(5):
        take_step(optimizer, whole, step)
        if step == 1:
            checkpoint.save(kept, whole, optimizer, checkpoint.Progress(2))
    resumed, after = start()
    assert checkpoint.load(kept, resumed, after).step == 2
    for step in range(2, 5):
        take_step(after, resumed, step)
    assert torch.equal(flat(list(resumed.parameters())), flat(list(whole.parameters())))
    assert after.statistics == optimizer.statistics and "cosine_adamw" in after.statistics
    for one, other in zip(after.param_groups, optimizer.param_groups, strict=True):
        assert {k: v for k, v in one.items() if k != "params"} == {
            k: v for k, v in other.items() if k != "params"
        }


@pytest.mark.parametrize("kind", SOPHIAS)
@pytest.mark.parametrize("control", CONTROLS)
def test_the_step_on_the_host_is_the_same(kind, control):
    ends = []
    for offload in (False, True):
        model = tiny_model()
        optimizer = optimizer_of(kind, model, control=control, offload=offload)
        for step in range(3):
            take_step(optimizer, model, step)
        ends.append((flat(list(model.parameters())), optimizer.statistics))
    assert torch.equal(ends[0][0], ends[1][0]) and ends[0][1] == ends[1][1]


@pytest.mark.parametrize("kind", SOPHIAS)
def test_the_settings_of_a_control_are_not_those_of_a_step(kind):
    method = OPTIMIZERS.parse({"kind": kind, "learning_rate": 1.0, "control": "mean_curvature"})
    assert not {"control", "permutation_seed", "diagnostics"} & set(method.settings())
