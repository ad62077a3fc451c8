"""A stage that fine-tunes learns as `original` does: the same weights to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json, read_jsonl
from pipeline_lib.core.sealing import sealed_jsonl
from pipeline_lib.data.splits import of_first_groups
from pipeline_lib.data.task_folder import load_splits
from pipeline_lib.stages.base import STAGES
from pipeline_lib.steps.trajectory import Judging, judged_steps
from pipeline_lib.training import compute
from tests.stages.study import Small, parameters
from tests.steps.study import FINETUNE, run_evaluate
from tests.study.suites import errors
from tests.study.suites import small as study


def test_it_learns_the_split_and_says_what_it_read(small: Small) -> None:
    made = small.stage({"kind": "finetune", "split": "facts", **FINETUNE}, [small.unlearned])
    run = read_json(made / "run.json")
    assert list(run["data"]) == ["authors.facts"] and run["steps"] == len(small.log(made)) > 1
    losses = [row["retain_loss"] for row in small.log(made)]
    assert losses[-1] < losses[0]
    assert run["trained_parameters"] == run["parameters"]


def test_the_same_seed_gives_the_same_bits_and_another_does_not(small: Small) -> None:
    settings = {"kind": "finetune", "split": "facts", **FINETUNE, "batch_size": 1}
    one, two, other = (small.stage(settings, [small.unlearned], seed=seed) for seed in (0, 0, 1))
    same = parameters(two)
    assert all(torch.equal(value, same[name]) for name, value in parameters(one).items())
    assert any(not torch.equal(value, parameters(one)[name]) for name, value in parameters(other).items())


def test_the_first_groups_are_learned_alone(small: Small) -> None:
    """Two authors of two questions: one of them is half of the steps of batch size 1."""
    settings = {"kind": "finetune", "split": "forget", **FINETUNE, "batch_size": 1}
    both, one = (small.stage({**settings, "groups": n}, [small.unlearned]) for n in (None, 1))
    assert len(small.log(both)) == 2 * len(small.log(one))
    (first, second) = (record.group for record in load_splits(small.data, ["forget"])["forget"][::2])
    records = load_splits(small.data, ["forget"])["forget"]
    assert {record.group for record in of_first_groups(records, 1, "forget")} == {first} != {second}
    with pytest.raises(
        UserError, match="`groups` is 2, but the split 'forget' has 2 of them, and none would"
    ):
        small.stage({**settings, "groups": 2}, [small.unlearned])


def test_groups_of_the_own_forget_set_are_known_to_what_judges() -> None:
    learned = {"kind": "finetune", "split": "forget", "groups": 3}
    assert STAGES.parse(learned).learned_groups("own") == 3
    assert STAGES.parse({**learned, "task": "own"}).learned_groups("own") == 3
    for other in ({"split": "retain"}, {"task": "other"}, {"groups": None}):
        assert STAGES.parse({**learned, **other}).learned_groups("own") == 0


def test_a_rate_that_is_too_large_is_recorded_as_diverged(small: Small) -> None:
    settings = {**FINETUNE, "learning_rate": 1e30}
    made = small.stage({"kind": "finetune", "split": "facts", **settings}, [small.unlearned])
    run = read_json(made / "run.json")
    assert run["status"] == "diverged" and run["diverged_step"] >= 1 and run["weights_sha256"] is None


def test_it_reads_the_data_of_the_task_that_it_names() -> None:
    stage = STAGES.parse({"kind": "finetune", "task": "other"})
    assert (stage.data_of("own"), stage.splits()) == ("other", ("retain",))
    assert STAGES.parse({"kind": "finetune"}).data_of("own") == "own"


def test_the_log_is_that_of_a_training(small: Small) -> None:
    made = small.stage({"kind": "finetune", "split": "facts", **FINETUNE}, [small.unlearned])
    rows = read_jsonl(small.training(made) / "steps.jsonl")
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    assert {"learning_rate", "grad_norm", "tokens_per_s"} <= set(rows[0])


def test_auto_is_what_this_machine_makes_of_it(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cpuinfo").write_text("flags\t: avx512_bf16\n")
    monkeypatch.setattr(compute, "CPU_FACTS", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    stage = {"kind": "finetune", "split": "facts", **FINETUNE}
    made, same = (small.stage({**stage, "compute": kind}, [small.unlearned]) for kind in ("auto", "bf16"))
    for folder in (made, same):
        assert read_json(folder / "run.json")["stage"]["compute"] == "bf16"
    assert all(torch.equal(value, parameters(same)[name]) for name, value in parameters(made).items())
    assert capfd.readouterr().err.count("compute: auto looked for") == 1


JUDGED = {"points": 3, "max_records": {}, "max_tokens_per_batch": 512}
WATCHED = {"kind": "finetune", "split": "facts", **FINETUNE, "batch_size": 1, "points": 3}


def evaluated(root: Path, small: Small, model: Path) -> dict[str, float]:
    """Log-probability per token of each forget question, by the evaluation of a finished model."""
    run_evaluate(root, small.data, model, None, None)
    rows = [row for row in sealed_jsonl(root / "records.jsonl") if row["split"] == "forget"]
    return {row["id"]: -row["answer_nll"] / row["answer_tokens"] for row in rows}


def test_judging_changes_no_bit_and_its_last_point_is_the_finished_model(
    small: Small, tmp_path: Path
) -> None:
    plain = {name: value for name, value in WATCHED.items() if name != "points"}
    made, watched = (
        small.stage(settings, [small.unlearned], judged=judged)
        for settings, judged in ((plain, None), (WATCHED, JUDGED))
    )
    assert all(torch.equal(value, parameters(watched)[name]) for name, value in parameters(made).items())
    assert not any("judged" in row for row in small.log(made))
    rows = {row["step"]: row["judged"] for row in small.log(watched) if "judged" in row}
    total = len(small.log(watched))
    assert list(rows) == judged_steps(total, 0.0, 3)
    assert rows[total]["forget"] == pytest.approx(evaluated(tmp_path, small, watched), rel=1e-4)
    assert rows[1]["forget"] != rows[total]["forget"]


def test_a_tiny_learning_rate_leaves_the_curve_flat(small: Small, tmp_path: Path) -> None:
    still = small.stage({**WATCHED, "learning_rate": 1e-12}, [small.unlearned], judged=JUDGED)
    known = evaluated(tmp_path, small, small.unlearned)
    judged = [row["judged"]["forget"] for row in small.log(still) if "judged" in row]
    assert len(judged) == 3 and all(forget == pytest.approx(known, rel=1e-4) for forget in judged)


def test_a_rate_too_small_for_any_weight_changes_no_bit(small: Small) -> None:
    settings = {"kind": "finetune", "split": "facts", **FINETUNE, "learning_rate": 1e-30}
    before = parameters(small.unlearned)
    made = small.stage(settings, [small.unlearned])
    assert all(torch.equal(value, before[name]) for name, value in parameters(made).items())


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"kind": "finetune", "epochs": 0}, "epochs"),
        ({"kind": "finetune", "learning_rate": 0}, "learning_rate"),
        ({"kind": "interpolate", "share": 0}, "share"),
    ],
)
def test_a_stage_that_would_do_nothing_is_refused(settings: dict[str, Any], field: str) -> None:
    found = errors(study(stages={"a": settings}))
    assert any(line.startswith(f"stages.a.{field}: found 0") for line in found), found


def test_a_killed_judged_stage_continues_to_the_same_log(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**WATCHED, "checkpoint_seconds": 0}
    whole = small.stage(settings, [small.unlearned], judged=JUDGED)
    asked = Judging.of

    def killed(self: Judging, total: int, warmup: float) -> Any:
        judge = asked(self, total, warmup)

        def once(step: int) -> Any:
            if step == total:
                raise KeyboardInterrupt
            return judge(step)

        return once

    monkeypatch.setattr(Judging, "of", killed)
    with pytest.raises(KeyboardInterrupt):
        small.stage(settings, [small.unlearned], judged=JUDGED, name="again")
    monkeypatch.setattr(Judging, "of", asked)
    steps: list[int] = []
    monkeypatch.setattr(
        Judging,
        "of",
        lambda *of: lambda step: steps.append(step) or asked(*of)(step),  # type: ignore[func-returns-value]
    )
    again = small.stage(settings, [small.unlearned], judged=JUDGED, name="again")
    rows, long = small.log(again), small.log(whole)
    assert steps == [len(long)], "the steps before the kill are not taken again"
    assert [(row["loss"], row.get("judged")) for row in rows] == [
        (row["loss"], row.get("judged")) for row in long
    ]
    assert all(torch.equal(value, parameters(whole)[name]) for name, value in parameters(again).items())


def test_scores_of_rounded_weights_are_refused() -> None:
    ((field, message),) = STAGES.parse({**WATCHED, "weights": "bf16"}).faults(1)
    assert field == "points" and message.startswith("needs `weights: fp32`, found 'bf16'")
    assert list(STAGES.parse(WATCHED).faults(1)) == []
    assert "points" not in STAGES.parse({"kind": "finetune"}).settings(), "older stages keep their identity"
