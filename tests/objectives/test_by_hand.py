"""Each objective on two or three tokens whose probabilities are powers of two, worked out on paper."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from pipeline_lib.data.batching import Alternative, Example, collate
from pipeline_lib.objectives.finetuning import FineTuning
from pipeline_lib.objectives.rmu import RMU
from tests.methods import make_objective
from tests.objectives.cases import held, loss_and_gradient
from tests.tiny import Bigram, in_float64

LN2, LN3 = math.log(2), math.log(3)
close = partial(pytest.approx, rel=1e-12, abs=1e-12)

# Token v is followed by token w with probability TABLE[v][w].
TABLE = [
    [1 / 2, 1 / 4, 1 / 8, 1 / 8],
    [1 / 8, 1 / 2, 1 / 4, 1 / 8],
    [1 / 4, 1 / 4, 1 / 4, 1 / 4],
    [1 / 2, 1 / 8, 1 / 4, 1 / 8],
]
UNIFORM = [[1 / 4] * 4] * 4
# prompt [3 0], answer [1 2]: p(1|0) p(2|1) = 1/4 * 1/4, so 4 ln 2 over 2 tokens
# prompt [2], answer [0]: p(0|2) = 1/4, so 2 ln 2
FORGET = [Example((3, 0, 1, 2), 2, 0), Example((2, 0), 1, 1)]
# the same prompts, answers [0]: p(0|0) = 1/2, so ln 2, and [1 1]: p(1|2) p(1|1) = 1/4 * 1/2, so 3 ln 2
OTHERS = [Example((3, 0, 0), 2, 0), Example((2, 1, 1), 1, 1)]
# prompt [3], answer [0 0]: 1/2 * 1/2, so 2 ln 2 over 2 tokens
RETAIN = [Example((3, 0, 0), 1, 0)]
# p(0|2) = 1/4; p(0|3) p(0|0) = 1/2 * 1/2: a mean NLL of 2 ln 2 and of ln 2 a token
MIXED = [Example((2, 0), 1, 0), Example((3, 0, 0), 1, 1)]
NLL = {"forget": close(2 * LN2), "retain": close(LN2)}  # 6 ln 2 over 3 tokens, 2 ln 2 over 2


@in_float64()
def hand(objective, reference=None, others=None, forget=FORGET):
    batches = [collate(forget, 0, reference, others)], [collate(RETAIN, 0)]
    return loss_and_gradient(objective, Bigram(TABLE), *batches)[0]


def test_means_of_nll():
    assert hand(FineTuning()) == {"total": close(LN2), "forget": None, "retain": close(LN2)}
    assert hand(make_objective("GradAscent")) == {
        "total": close(-2 * LN2),
        "forget": close(2 * LN2),
        "retain": None,
    }
    assert hand(make_objective("GradDiff", gamma=3.0)) == {"total": close(-2 * LN2 + 3 * LN2), **NLL}
    for kind in ("PO", "RandomLabels"):
        assert hand(make_objective(kind, gamma=5.0)) == {"total": close(2 * LN2 + 5 * LN2), **NLL}


def test_task_vector_learns_and_walks_back():
    vector = make_objective("TaskVector", scale=0.5)
    assert hand(vector) == {"total": close(2 * LN2), "forget": close(2 * LN2), "retain": None}
    learned = torch.nn.Linear(2, 1, bias=False)
    learned.weight.data = torch.tensor([[5.0, 1.0]])
    vector.finish(learned, {"weight": torch.tensor([[3.0, 2.0]])})
    assert learned.weight.tolist() == [[2.0, 2.5]]  # 3 - (5 - 3) / 2 and 2 - (1 - 2) / 2


def test_whp_learns_its_labels():
    """The forget batch holds the generic labels, here [1 2] and [0]."""
    whp = make_objective("WHP", alpha=5.0, gamma=3.0, reinforce_epochs=1.0, reinforce_learning_rate=1e-3)
    assert hand(whp) == {"total": close(2 * LN2 + 3 * LN2), **NLL}


def test_npo():
    # Row 0: l - l_ref = ln 3 / beta, so sigmoid = 3/4. Row 1: l = l_ref, so sigmoid = 1/2.
    beta = 0.5
    reference = torch.tensor([4 * LN2 - LN3 / beta, 2 * LN2], dtype=torch.float64)
    expected = -(2 / beta) * (math.log(3 / 4) + math.log(1 / 2)) / 2 + 3 * LN2
    assert hand(make_objective("NPO", beta=beta, alpha=3.0), reference) == {"total": close(expected), **NLL}


def test_simnpo():
    # sigmoid(2 ln 2) = 4/5 and sigmoid(ln 2) = 2/3; with the margin ln 2 they are 2/3 and 1/2.
    for margin, sigmoids in ((0.0, (4 / 5, 2 / 3)), (LN2, (2 / 3, 1 / 2))):
        objective = make_objective("SimNPO", beta=1.0, margin=margin, forget_weight=0.5, alpha=3.0)
        expected = -0.5 * 2 * (math.log(sigmoids[0]) + math.log(sigmoids[1])) / 2 + 3 * LN2
        found = hand(objective, forget=MIXED)
        assert found == {"total": close(expected), "forget": close(4 / 3 * LN2), "retain": close(LN2)}


@pytest.mark.parametrize(
    ("kind", "more"), [("DPO", {"alternatives": "records"}), ("IdkDPO", {}), ("AltPO", {})]
)
def test_pairs(kind, more):
    # Row 0: the answer has gained ln 3 / beta of NLL and the alternative nothing, so sigmoid = 3/4.
    # Row 1: the alternative has gained ln 3 / beta and the answer nothing, so sigmoid = 1/4.
    beta = 0.5
    reference = torch.tensor([4 * LN2 - LN3 / beta, 2 * LN2], dtype=torch.float64)
    others = [Alternative(OTHERS[0], LN2), Alternative(OTHERS[1], 3 * LN2 - LN3 / beta)]
    expected = -(2 / beta) * (math.log(3 / 4) + math.log(1 / 4)) / 2 + 3 * LN2
    found = hand(make_objective(kind, beta=beta, alpha=3.0, **more), reference, others)
    assert found == {"total": close(expected), **NLL}


def test_token_weights():
    # Of MIXED: p = 1/4 once and 1/2 twice; p nll = 2 ln 2 / 4 and ln 2 / 2; over 3 tokens.
    nll = {"forget": close(4 / 3 * LN2), "retain": close(LN2)}
    found = hand(make_objective("WGA", beta=1.0, alpha=2.0), forget=MIXED)
    assert found == {"total": close(-(1 / 2 + 2 * 1 / 2) / 3 * LN2 + 2 * LN2), **nll}
    # p^2 (1 - p) nll = 1/16 * 3/4 * 2 ln 2 and 1/4 * 1/2 * ln 2
    found = hand(make_objective("SatImp", beta1=2.0, beta2=1.0, alpha=2.0), forget=MIXED)
    assert found == {"total": close(-(3 / 32 + 2 / 8) / 3 * LN2 + 2 * LN2), **nll}


def test_kl():
    # The retain answer is predicted after tokens 3 and 0. The reference is uniform after 3, equal after 0:
    # KL(uniform || row 3) = 1/4 (ln 1/2 + ln 2 + ln 1 + ln 2) = ln 2 / 4, over 2 tokens.
    uniform = Bigram([TABLE[0], TABLE[1], TABLE[2], [1 / 4] * 4])
    found = hand(make_objective("KL", gamma=8.0, reference_model=held(uniform)))
    assert found == {"total": close(-2 * LN2 + 8 * LN2 / 8), **NLL}
    # The direction: KL((1/4, 1/4, 1/2, 0+) || (1/2, 1/8, 1/4, 1/8)) = -1/4 ln 2 + 1/4 ln 2 + 1/2 ln 2,
    # which is ln 2 / 2, while the other way round would be more than 80.
    skewed = Bigram([TABLE[0], TABLE[1], TABLE[2], [1 / 4, 1 / 4, 1 / 2, 1e-300]])
    found = hand(make_objective("KL", gamma=8.0, reference_model=held(skewed)))
    assert found["total"] == close(-2 * LN2 + 8 * LN2 / 4)


def test_undial():
    # From a uniform reference with ln 3 taken off, the true token has (1/3) / (1/3 + 3) = 1/10 and the
    # others 3/10. CE in ln 2: 0.3 * 1 + 0.1 * 2 + 0.3 * 3 + 0.3 * 3 = 2.3 (after 0, true token 1);
    # 0.3 * 3 + 0.3 * 1 + 0.1 * 2 + 0.3 * 3 = 2.3 (after 1, true token 2); 2 (after 2).
    settings = {"beta": LN3, "reference_model": held(Bigram(UNIFORM))}
    found = hand(make_objective("UNDIAL", alpha=3.0, **settings))
    assert found == {"total": close(6.6 / 3 * LN2 + 3 * LN2), **NLL}
    found = hand(make_objective("UNDIAL", alpha=0.0, **settings))
    assert found == {"total": close(6.6 / 3 * LN2), "forget": close(2 * LN2), "retain": None}


def test_ceu():
    # After 0 without token 1: (2/3, -, 1/6, 1/6), CE = (2/3 * 1 + 2/6 * 3) ln 2 = 5/3 ln 2. After 1 without
    # token 2: (1/6, 2/3, -, 1/6), CE = 5/3 ln 2. After 2: 2 ln 2.
    everything = {"total": close((5 / 3 + 5 / 3 + 2) / 3 * LN2), "forget": close(2 * LN2), "retain": None}
    assert hand(make_objective("CEU", skip_first_token=False)) == everything
    # Without first tokens the one after token 1 is left.
    found = hand(make_objective("CEU", skip_first_token=True))
    assert found == {**everything, "total": close(5 / 3 * LN2)}
    # Answers of one token alone leave nothing.
    assert hand(make_objective("CEU", skip_first_token=True), forget=FORGET[1:])["total"] == 0


def test_pdu():
    # In ln 2: rows 0 and 1 have the maximum -1 and the mean -9/4, row 2 is flat: 2 * (5/4)^2 over 3 tokens.
    objective = make_objective("PDU", retain_bound=0.5, dual_start=3.0, dual_step=1.0, dual_warmup=0)
    assert hand(objective) == {"total": close(25 / 24 * LN2**2 + 3 * (LN2 - 0.5)), **NLL}


class Straight(RMU):
    def direction(self, size):
        return torch.tensor([-1.0, 0.0, 0.0, 0.0])


def straight(reference, **changes):
    settings = {"layer": 0, "update_layers": 1, "steering": 2 * LN2, "alpha": 16.0, **changes}
    return Straight(kind="RMU", **settings).with_reference_model(reference)


def test_rmu():
    # Hidden states are rows of logs, in ln 2: -(1 2 3 3), -(3 1 2 3), -(2 2 2 2); the goal is (-2 0 0 0).
    # Squares 1 + 4 + 9 + 9, 1 + 1 + 4 + 9 and 0 + 4 + 4 + 4: 50, over 3 tokens and 4 places.
    # Retain, after 3 and 0: row 3 is -(1 3 2 3) and was -(2 2 2 2): 1 + 1 + 0 + 1; row 0 as it was.
    reference = held(Bigram([TABLE[0], *UNIFORM[1:]]))
    found = hand(straight(reference))
    assert found == {"total": close((50 / 12 + 16 * 3 / 8) * LN2**2), "forget": None, "retain": None}


def test_l1():
    # In ln 2 the table's entries sum to -(9 + 9 + 8 + 9).
    found = hand(make_objective("L1Sparse", strength=0.5))
    assert found == {"total": close(LN2 + 0.5 * 35 * LN2), "forget": None, "retain": close(LN2)}
