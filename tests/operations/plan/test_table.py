"""The plan of a study: which jobs it counts, what it marks, and what it says would help."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib import __main__ as command
from pipeline_lib.core.errors import UserError
from pipeline_lib.operations.plan import check_fits, check_inputs, finished, groups_of, plan_text
from pipeline_lib.operations.plan.advice import advice
from pipeline_lib.operations.plan.context import base_faults
from pipeline_lib.operations.plan.jobs import memory_of, planned_jobs, seconds_of
from pipeline_lib.operations.plan.training import Training, weight_bytes
from pipeline_lib.study import dump_suite, load_suite, parse_suite
from pipeline_lib.study.table import models_of
from tests.paths import REPO
from tests.study.suites import COMMIT, small

SEVEN = {
    "source": "hub",
    "id": "lab/seven",
    "revision": COMMIT,
    "shape": {
        "parameters": 6738415616,
        "hidden_size": 4096,
        "layers": 32,
        "vocab_size": 32000,
        "intermediate_size": 11008,
        "heads": 32,
        "context": 4096,
    },
}
GPU = {"gpus": 1, "gpu_memory_gb": 80, "minutes": 600}


@pytest.fixture(autouse=True)
def _nothing_at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PIPELINE_MODELS", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))


def seven(**changes: Any) -> Any:
    """A suite of one 7B model on one GPU, one method with one optimiser."""
    raw = {
        "models": {"seven": SEVEN},
        "tasks": {"tofu": {"source": "tofu"}},
        "objectives": {"GradDiff": None},
        "optimizers": {"adamw": {"learning_rate": 1e-5}},
        "unlearn": {"batch_size": 4},
        "resources": GPU,
    }
    return parse_suite(small(**{**raw, **changes}))


def unlearning(suite: Any) -> Training:
    return next(work for job, work in planned_jobs(suite) if job.rule == "unlearn")


def test_every_model_of_the_study_is_made_and_measured_once() -> None:
    suite = load_suite(REPO / "config.yaml")
    jobs = [job for job, _ in planned_jobs(suite)]
    index = models_of(suite)
    made = [job.run for job in jobs if job.rule in ("finetune", "unlearn", "stage")]
    asked = [key for key in index if key.after and suite.stages[key.after].asks]
    assert asked and sorted([*made, *asked]) == sorted(index)
    assert sorted(job.run for job in jobs if job.rule == "evaluate") == sorted(index)
    assert sum(group.jobs for group in groups_of(suite)) == len(jobs)


def test_tuning_adds_its_trials_and_the_originals_of_its_seeds() -> None:
    suite = load_suite(REPO / "config" / "core.yaml")
    assert suite.tune is not None
    jobs = [job for job, _ in planned_jobs(suite)]
    rows = len({job.run.row for job in jobs if job.rule == "unlearn"})
    trials = [job for job in jobs if job.rule == "trial"]
    assert len({(job.run, job.trial) for job in trials}) == len(trials)
    assert len(trials) == rows * suite.tune.trials * len(suite.tune.seeds)
    originals = {job.run.seed for job in jobs if job.rule == "finetune" and job.run.method == "original"}
    assert originals == {*suite.seeds, *suite.tune.seeds}


@pytest.mark.parametrize("path", sorted((REPO / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_suite_can_be_planned(path: Path) -> None:
    text = plan_text(load_suite(path))
    assert "Whole study: " in text
    assert not re.search(r"\b(nan|inf)\b", text)


def test_an_unlearning_job_of_7b_worked_out_by_hand() -> None:
    """fp32 weights, AdamW: 4 + 8 bytes a parameter held, 4 of gradients; activations and copies on top."""
    memory = memory_of(unlearning(seven()))
    parameters = 6738415616
    assert memory.parts["weights"] == 4 * parameters
    assert memory.parts["optimiser"] == 8 * parameters
    assert memory.phase == "backward"
    assert memory.parts["gradients"] == 4 * parameters
    assert 16 * parameters < memory.total < 18.5 * parameters
    half = memory_of(unlearning(seven(unlearn={"weights": "bf16", "batch_size": 4})))
    assert half.parts["weights"] == 2 * parameters
    assert half.total < 0.55 * memory.total


@pytest.mark.parametrize(("resources", "becomes"), [(GPU, "bf16"), ({"memory_mb": 2000}, "fp32")])
def test_auto_takes_the_larger_memory_and_the_time_of_what_the_device_promises(
    resources: dict[str, Any], becomes: str
) -> None:
    """More with many weights in bf16 (the copies), more with many activations in fp32."""
    larger = set()
    for batch in (1, 256):
        of = {
            compute: unlearning(seven(unlearn={"batch_size": batch, "compute": compute}, resources=resources))
            for compute in ("fp32", "bf16", "auto")
        }
        memory = {compute: memory_of(work) for compute, work in of.items()}
        assert memory["auto"] == max(memory["fp32"], memory["bf16"], key=lambda found: found.total)
        larger.add(max(("fp32", "bf16"), key=lambda compute: memory[compute].total))
        seconds = {compute: seconds_of(work) for compute, work in of.items()}
        assert seconds["fp32"] != seconds["bf16"] and seconds["auto"] == seconds[becomes]
    assert larger == {"fp32", "bf16"}


def test_auto_is_planned_and_advised_like_any_other() -> None:
    suite = seven(unlearn={"batch_size": 4, "compute": "auto"}, finetune={"compute": "auto"})
    text = plan_text(suite)
    assert "What would make it fit: unlearn.offload: true." in text
    assert not re.search(r"\b(nan|inf)\b", text)


def test_what_does_not_fit_is_marked_with_what_would_help() -> None:
    suite = seven()
    text = plan_text(suite)
    unlearn = next(line for line in text.splitlines() if line.startswith("unlearn"))
    assert " !" in unlearn
    assert "What would make it fit: unlearn.offload: true." in text
    changed = seven(unlearn={"batch_size": 4, "offload": True})
    assert memory_of(unlearning(changed)).total <= 80e9
    assert advice(unlearning(changed)) is None, "the advice holds"


@pytest.mark.parametrize(
    ("gigabytes", "unlearn", "cure"),
    [
        (1000, {}, None),
        (80, {"offload": True}, None),
        (40, {}, "unlearn.lora: {rank: 8}"),
        (30, {}, "unlearn.weights: bf16 and unlearn.lora: {rank: 8}"),
        (5, {}, "a smaller model, or a device with more memory: no setting is enough"),
    ],
)
def test_one_setting_is_named_where_one_is_enough(
    gigabytes: float, unlearn: dict[str, Any], cure: str | None
) -> None:
    suite = seven(unlearn=unlearn, resources={**GPU, "gpu_memory_gb": gigabytes})
    found = advice(unlearning(suite))
    if cure is None:
        assert found is None
    else:
        assert found is not None
        assert cure in found


def test_what_cannot_fit_is_refused_before_any_job_with_what_would_help(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        check_fits(seven())
    message = str(caught.value)
    assert "more memory than there is (resources.gpu_memory_gb: 80.0 GB), so no job is started" in message
    for block, kind in (("finetune", "finetune of seven"), ("unlearn", "unlearn of seven (GradDiff+adamw)")):
        line = next(line for line in message.splitlines() if line.startswith(f"  {kind}"))
        assert "optimiser 53.9 GB, weights 27.0 GB, gradients 27.0 GB" in line
        assert line.endswith(f"What would make it fit: {block}.offload: true.")
    saving = {"finetune": {"offload": True}, "unlearn": {"offload": True}}
    check_fits(seven(**saving))
    check_fits(seven(resources={**GPU, "gpu_memory_gb": 100}))  # within the error of an estimate: marked only
    check_fits(seven(resources={"gpus": 1}))  # nobody said how much there is
    check_fits(seven(), lambda *job: True)  # what is done needs nothing


def test_what_a_reduced_base_does_not_allow_is_refused_before_any_job() -> None:
    int8 = {"models": {"seven": {**SEVEN, "base": {"kind": "int8"}}}, "resources": {"gpus": 1}}
    where, fault = next(base_faults(seven(**int8)))
    assert where == "models.seven.base"
    assert fault.startswith("GradDiff with adamw: the model's base is int8")
    assert not list(base_faults(seven(**int8, unlearn={"lora": {"rank": 8}})))
    pruned = {**int8, "models": {"seven": {**SEVEN, "base": {"kind": "pruned", "sparsity": 0.5}}}}
    assert not list(base_faults(seven(**pruned)))
    found = list(base_faults(seven(**pruned, optimizers={"muon": {"learning_rate": 1e-5}})))
    fault = found[0][1]
    assert fault.startswith("GradDiff with muon: the model's base is pruned")
    with pytest.raises(UserError, match=r"models.seven.base: GradDiff with adamw"):
        check_inputs(seven(**int8))


def test_on_a_cpu_only_more_than_any_try_can_have_is_refused() -> None:
    check_fits(seven(resources={"memory_mb": 2000}))
    with pytest.raises(
        UserError, match=r"resources.memory_limit_mb: 67.1 GB.*\n(.|\n)*checkpointing|weights"
    ):
        check_fits(seven(resources={"memory_limit_mb": 64000}))


def test_the_command_shows_the_plan_and_then_refuses(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(dump_suite(seven()))
    assert command.main(["plan", str(path)]) == 1
    shown = capsys.readouterr()
    assert "Largest: unlearn of seven" in shown.out and "so no job is started" in shown.err


def test_settings_that_save_memory_save_what_the_plan_says() -> None:
    parameters = 6738415616
    plain = memory_of(unlearning(seven()))
    offloaded = memory_of(unlearning(seven(unlearn={"batch_size": 4, "offload": True})))
    assert plain.total - offloaded.total == pytest.approx(8 * parameters)
    batch = {"batch_size": 32}
    again = memory_of(unlearning(seven(unlearn={**batch, "checkpointing": True})))
    assert again.total < memory_of(unlearning(seven(unlearn=batch))).total - 20e9
    lora = {"batch_size": 4, "lora": {"rank": 8}}
    wide = memory_of(unlearning(seven(unlearn=lora)))
    base = {"seven": {**SEVEN, "base": {"kind": "int8"}}}
    narrow = unlearning(seven(models=base, unlearn=lora))
    assert weight_bytes(narrow) < 0.3 * 4 * parameters < wide.parts["weights"]
    tuned = seven(finetune={"weights": "bf16", "lora": {"rank": 8}})
    work = next(work for job, work in planned_jobs(tuned) if job.rule == "finetune")
    assert work is not None and memory_of(work).total < 35e9


def test_the_advice_is_followed_and_then_the_job_fits() -> None:
    """A small model with a large batch: its activations are most of what it holds."""
    small_model = {
        "models": {"tiny": {"source": "scratch", "hidden_size": 512, "intermediate_size": 1400}},
        "resources": {"gpus": 1, "gpu_memory_gb": 1.5},
    }
    suite = seven(unlearn={"batch_size": 32}, **small_model)
    found = advice(unlearning(suite))
    assert found is not None
    match = re.fullmatch(r"unlearn\.batch_size: (\d+) with accumulation: (\d+)", found)
    assert match
    size, accumulation = map(int, match.groups())
    assert size * accumulation == 32, "the same step"
    changed = seven(unlearn={"batch_size": size, "accumulation": accumulation}, **small_model)
    assert memory_of(unlearning(changed)).total <= 1.5e9 < memory_of(unlearning(suite)).total


def test_more_work_takes_longer_and_more_to_hold_takes_more() -> None:
    plain = unlearning(seven())
    assert seconds_of(unlearning(seven(unlearn={"batch_size": 4, "epochs": 10}))) > 1.5 * seconds_of(plain)
    assert seconds_of(unlearning(seven(resources={**GPU, "tflops": 40}))) < seconds_of(plain)
    for changes in (
        {"objectives": {"KL": None}},
        {"objectives": {"IdkDPO": None}},
        {"optimizers": {"sophia": {"learning_rate": 1e-5}}},
    ):
        more = unlearning(seven(**changes))
        assert memory_of(more).total >= memory_of(plain).total, changes
        assert seconds_of(more) > seconds_of(plain), changes
    hutchinson = {"learning_rate": 1e-5, "estimator": "hutchinson_rademacher"}
    whole = unlearning(seven(optimizers={"sophia": hutchinson}))
    drawn = unlearning(seven(optimizers={"sophia": {**hutchinson, "curvature_examples": 1}}))
    assert memory_of(drawn).total < memory_of(whole).total
    once = [seconds_of(work) - seconds_of(plain) for work in (drawn, whole)]
    assert once[0] < 0.5 * once[1]
    smaller = unlearning(seven(optimizers={"signum": {"learning_rate": 1e-5}}))
    assert memory_of(smaller).total == pytest.approx(memory_of(plain).total - 4 * 6738415616)


def test_a_model_whose_sizes_nobody_knows_is_unknown_and_said_so() -> None:
    text = plan_text(seven(models={"seven": {key: SEVEN[key] for key in ("source", "id", "revision")}}))
    assert "unknown" in text
    assert "Give `models.seven.shape` for an estimate." in text
    assert "What would make it fit" not in text


def test_what_is_done_is_left_out(tmp_path: Path) -> None:
    suite = parse_suite(small(seeds=[0], objectives={"NPO": None}))
    place = tmp_path / "training/authors/tiny/NPO/adamw/seed0"
    place.mkdir(parents=True)
    (place / "run.json").write_text("{}")
    text, whole = plan_text(suite, finished(tmp_path)), plan_text(suite)
    jobs = len(list(planned_jobs(suite)))
    assert f"Whole study: {jobs} jobs, " in whole
    assert f"Whole study: {jobs - 1} jobs, " in text
    assert "without the 1 that are done" in text


def test_guessed_sizes_are_said_to_be_guessed(tmp_path: Path) -> None:
    text = plan_text(parse_suite(small(tasks={"own": {"source": "files", "folder": str(tmp_path)}})))
    assert "Sizes of own are guessed" in text


def test_the_command_prints_the_plan_without_torch(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["plan", str(REPO / "config.yaml")]) == 0
    assert capsys.readouterr().out == plan_text(load_suite(REPO / "config.yaml")) + "\n"
    code = (
        "import sys; from pipeline_lib.__main__ import main; main(['plan', 'config.yaml']);"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, check=True, text=True)
    assert done.stdout.splitlines()[-1] == "False"
