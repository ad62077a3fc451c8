"""Numbers and memory: gradients that are not finite, and allocations that fail."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline_lib.core.files import read_json, read_jsonl
from pipeline_lib.steps import unlearning
from pipeline_lib.training import fine_tuning, loop
from tests.failures import children
from tests.failures.outcome import CONTINUED, Outcome, short
from tests.failures.study import Study, check_same, content


def not_a_number(study: Study, at: int = 4) -> Outcome:
    """One NaN in one gradient of step `at` ends unlearning as "diverged", with the log up to there."""
    root = study.fresh("nan unlearning")
    ended = _with_fault(study, "unlearning", root, at, _spoil)
    assert ended.well, ended.said
    run, log = read_json(root / "model" / "run.json"), content(root / "training" / "steps.jsonl")
    assert (run["status"], run["diverged_step"], run["weights_sha256"]) == ("diverged", at, None)
    assert [path.name for path in (root / "model").iterdir()] == ["run.json"]
    assert log == content(study.undisturbed("unlearning") / "training" / "steps.jsonl")[: at - 1]
    assert not (root / "checkpoint").exists()
    evaluated = children.run(lambda: _evaluate(study, root), root.with_name(f"{root.name} evaluated.log"))
    assert evaluated.well, evaluated.said
    assert read_jsonl(root / "evaluated" / "records.jsonl") == []
    became = f"recorded as diverged at step {at} without weights; evaluated to no records"
    return Outcome("unlearning", f"one gradient at step {at}", became)


def not_a_number_in_fine_tuning(study: Study, at: int = 4) -> Outcome:
    """Fine-tuning that diverges is an error; without the fault it continues from before it."""
    root = study.fresh("nan fine-tuning")
    ended = _with_fault(study, "fine-tuning", root, at, _spoil)
    assert ended.status == 1 and f"diverged at step {at}" in ended.message, ended.said
    assert not (root / "model").exists()
    again = study.run("fine-tuning", root)
    assert again.well, again.said
    check_same(root, study.undisturbed("fine-tuning"))
    return Outcome("fine-tuning", f"one gradient at step {at}", f"“{short(ended.message)}”; then {CONTINUED}")


def memory_error(study: Study, step: str, at: int = 4) -> Outcome:
    """A GPU that is full at step `at`: torch's own error, raised in the backward pass."""
    root = study.fresh(f"memory error {step}")
    ended = _with_fault(study, step, root, at, _raise)
    assert ended.status == 1 and "memory ran out" in ended.message, ended.said
    assert not (root / "model").exists()
    again = study.run(step, root)
    assert again.well, again.said
    check_same(root, study.undisturbed(step))
    return Outcome(
        step, f"torch.OutOfMemoryError at step {at}", f"“{short(ended.message)}”; then {CONTINUED}"
    )


def memory_limit(study: Study, step: str, megabytes: tuple[int, ...]) -> Outcome:
    """Real failures to allocate: the process may grow by so much and no more (RLIMIT_AS)."""
    messages, signals = set(), 0
    for grown in megabytes:
        root = study.fresh(f"memory limit {step}")

        limited = partial(_limited, study.step(step, root), grown)
        ended = children.run(limited, root.with_name(f"{root.name}.log"))
        assert ended.status in (0, 1, -signal.SIGABRT, -signal.SIGSEGV), ended.said
        if ended.status == 1:
            assert "memory ran out" in ended.message, ended.said
            messages.add(ended.message)
        signals += ended.status < 0
        again = study.run(step, root)
        assert again.well, again.said
        check_same(root, study.undisturbed(step))
    assert messages or signals, "no limit was tight enough to be met"
    told = f"“{short(min(messages))}”; then " if messages else ""
    died = f"{signals} ended by a signal; " if signals else ""
    return Outcome(step, f"{', '.join(map(str, megabytes))} MiB to grow by", f"{died}{told}{CONTINUED}")


def _limited(function: Callable[[], object], grown: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    allowed = pages * resource.getpagesize() + grown * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
    function()


def _with_fault(
    study: Study, step: str, root: Path, at: int, fault: Callable[[torch.Tensor], torch.Tensor]
) -> children.Ended:
    """Run the step with `fault` applied to one gradient of its step `at`, counted from 1."""

    def faulty(model: torch.nn.Module, *arguments: Any, **more: Any) -> Any:
        parameter = next(model.parameters())
        # The checkpoint, which the study writes after every step, counts the steps.
        parameter.register_hook(lambda gradient: fault(gradient) if _steps_done() == at - 1 else gradient)
        return loop.train(model, *arguments, **more)

    def _steps_done() -> int:
        state = root / "checkpoint" / "state.json"
        return read_json(state)["step"] if state.is_file() else 0

    def patched() -> None:
        fine_tuning.train = unlearning.train = faulty  # type: ignore[assignment]
        study.step(step, root)()

    return children.run(patched, root.with_name(f"{root.name}.log"))


def _spoil(gradient: torch.Tensor) -> torch.Tensor:
    spoilt = gradient.clone()
    spoilt.view(-1)[0] = torch.nan
    return spoilt


def _raise(gradient: torch.Tensor) -> torch.Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def _evaluate(study: Study, root: Path) -> None:
    from tests.steps.study import run_evaluate

    run_evaluate(root / "evaluated", study.data, root / "model", study.original, 0.05)
