"""TensorBoard's own reader finds in the event files what the study says, and the study is untouched."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib import __main__ as command
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import sha256
from pipeline_lib.operations.tracking import follow
from pipeline_lib.operations.tracking.follow import check_tracker, start_tracking, track
from pipeline_lib.study import dump_suite
from tests.operations.status.study import small_suite

pytest.importorskip("tensorboard", reason="tensorboard, of the extra `tracking`, is not installed")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

RUN = "authors/tiny/GradDiff/adamw/seed0"
SUITE = small_suite(tracking={"every_seconds": 1})


def rows(count: int, start: float = 2.0) -> list[dict[str, Any]]:
    return [
        {"step": n, "loss": start - n / 10, "gamma": None, "elapsed_s": start + n}
        for n in range(1, count + 1)
    ]


class Run:
    """The files of one run, at any moment of its life."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def write(self, place: str, text: str) -> None:
        path = self.out / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def checkpoint(self, log: list[dict[str, Any]]) -> None:
        self.write(f"checkpoints/{RUN}/state.json", json.dumps({"step": len(log), "log": log}))

    def finish(self, log: list[dict[str, Any]], **facts: Any) -> None:
        self.write(f"training/{RUN}/steps.jsonl", "".join(json.dumps(row) + "\n" for row in log))
        told = {"task": "authors", "optimizer": "adamw", "seed": 0, "status": "ok", "steps": len(log)}
        settings = {
            "optimizer_settings": {"learning_rate": 1e-3},
            "training": {"decay": "linear", "lora": None},
        }
        self.write(f"training/{RUN}/run.json", json.dumps({**told, **settings, **facts}))

    def judge(self, value: float | None = 0.25) -> None:
        metrics = [{"split": "forget", "metric": "probability", "value": value, "n": 6}]
        self.write(f"evaluations/{RUN}/metrics.json", json.dumps({"metrics": metrics}))

    def read(self) -> EventAccumulator:
        found = EventAccumulator(str(self.out / "tracking" / RUN))
        found.Reload()
        return found

    def losses(self) -> list[tuple[int, float]]:
        return [(point.step, pytest.approx(point.value)) for point in self.read().Scalars("training/loss")]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "results/small")


def losses_of(log: list[dict[str, Any]]) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in log]


def test_a_run_is_followed_from_checkpoint_to_metrics(run: Run) -> None:
    log = rows(9)
    run.checkpoint(log[:3])
    assert track(SUITE, run.out) == 1
    assert run.losses() == losses_of(log[:3])
    (path,) = (run.out / "tracking" / RUN).iterdir()
    before = path.read_bytes()
    run.checkpoint(log[:5])
    assert track(SUITE, run.out) == 1
    assert path.read_bytes().startswith(before), "whoever reads it meanwhile reads on"
    assert track(SUITE, run.out) == 0, "nothing new"
    run.finish(log)
    assert track(SUITE, run.out) == 1
    assert run.losses() == losses_of(log), "every step once"
    run.judge()
    assert track(SUITE, run.out) == 1
    read = run.read()
    (metric,) = read.Scalars("evaluation/forget/probability")
    assert (metric.step, metric.value) == (9, 0.25)
    assert sorted(read.Tags()["scalars"]) == [
        "evaluation/forget/probability",
        "training/elapsed_s",
        "training/loss",
    ]
    assert list((run.out / "tracking" / RUN).iterdir()) == [path]
    assert path.read_bytes().startswith(before)


def test_times_are_those_of_the_steps(run: Run) -> None:
    run.finish(rows(4))
    path = run.out / f"training/{RUN}/steps.jsonl"
    os.utime(path, (1_700_000_000, 1_700_000_000))
    track(SUITE, run.out)
    times = [point.wall_time for point in run.read().Scalars("training/loss")]
    assert times == [1_700_000_000 - back for back in (3, 2, 1, 0)]


def test_settings_stand_in_the_table_of_runs(run: Run) -> None:
    run.finish(rows(2))
    run.judge()
    track(SUITE, run.out)
    found = run.read().SummaryMetadata("_hparams_/session_start_info")
    data = plugin_data_pb2.HParamsPluginData.FromString(found.plugin_data.content)
    values = data.session_start_info.hparams
    assert values["optimizer.learning_rate"].number_value == 1e-3
    assert values["training.decay"].string_value == "linear"
    assert values["status"].string_value == "ok"
    assert "training.lora" not in values
    ended = run.read().SummaryMetadata("_hparams_/session_end_info")
    assert (
        plugin_data_pb2.HParamsPluginData.FromString(ended.plugin_data.content).session_end_info.status == 1
    )


def test_a_run_that_is_made_anew_begins_a_new_file(run: Run) -> None:
    run.finish(rows(9))
    run.judge()
    track(SUITE, run.out)
    for place in (f"training/{RUN}/steps.jsonl", f"evaluations/{RUN}/metrics.json"):
        (run.out / place).unlink()
    again = rows(4, start=7.0)
    run.checkpoint(again)
    track(SUITE, run.out)
    assert run.losses() == losses_of(again)
    assert "evaluation/forget/probability" not in run.read().Tags()["scalars"]


def test_what_a_killed_tracker_left_half_written_is_cut_off(run: Run) -> None:
    log = rows(6)
    run.checkpoint(log[:3])
    track(SUITE, run.out)
    (path,) = (run.out / "tracking" / RUN).iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole + whole[-40:-10])
    run.checkpoint(log)
    track(SUITE, run.out)
    assert run.losses() == losses_of(log)


@pytest.mark.parametrize("kept", [0, 1, 200])
def test_what_was_lost_is_written_again_and_nothing_twice(run: Run, kept: int) -> None:
    log = rows(6)
    run.checkpoint(log[:3])
    track(SUITE, run.out)
    (path,) = (run.out / "tracking" / RUN).iterdir()
    os.truncate(path, kept)
    run.checkpoint(log)
    track(SUITE, run.out)
    assert run.losses() == losses_of(log)


def test_values_that_are_no_numbers_make_no_points(run: Run) -> None:
    run.finish(
        [{"step": 1, "loss": float("nan"), "solver_converged": True, "grad_norm": 1, "elapsed_s": 1.0}]
    )
    run.judge(None)
    track(SUITE, run.out)
    assert sorted(run.read().Tags()["scalars"]) == ["training/elapsed_s", "training/grad_norm"]


def test_a_file_that_is_being_replaced_is_read_at_the_next_look(run: Run) -> None:
    run.write(f"checkpoints/{RUN}/state.json", '{"step": 3, "lo')
    assert track(SUITE, run.out) == 0
    run.checkpoint(rows(3))
    assert track(SUITE, run.out) == 1
    assert run.losses() == losses_of(rows(3))


def test_the_study_itself_is_not_touched(run: Run) -> None:
    run.finish(rows(5))
    run.judge()
    before = {path: (sha256(path), path.stat().st_mtime_ns) for path in run.out.rglob("*") if path.is_file()}
    track(SUITE, run.out)
    after = {path: (sha256(path), path.stat().st_mtime_ns) for path in before}
    assert after == before
    new = {path.relative_to(run.out).parts[0] for path in run.out.rglob("*") if path.is_file()} - {
        path.relative_to(run.out).parts[0] for path in before
    }
    assert new == {"tracking"}


def test_the_suite_that_is_kept_is_the_same_with_and_without() -> None:
    assert dump_suite(SUITE) == dump_suite(small_suite())
    assert SUITE.tracking is not None


def test_the_background_follows_and_looks_once_more_at_the_end(run: Run) -> None:
    run.checkpoint(rows(2))
    end = start_tracking(SUITE, run.out)
    deadline = time.monotonic() + 60
    while (
        not any(path.stat().st_size for path in run.out.glob("tracking/authors/**/events.*"))
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    assert run.losses() == losses_of(rows(2))
    run.finish(rows(5))
    run.judge()
    end()
    assert run.losses() == losses_of(rows(5))


def test_without_the_block_nothing_happens(run: Run) -> None:
    run.finish(rows(2))
    start_tracking(small_suite(), run.out)()
    assert not (run.out / "tracking").exists()


def test_a_tracker_that_fails_does_not_stop_the_study(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(follow, "event_bytes", full)
    run.finish(rows(2))
    start_tracking(SUITE, run.out)()
    assert "No space left on device. The study goes on without" in capsys.readouterr().err


def test_a_missing_package_is_told_before_any_job(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setattr(follow.importlib.util, "find_spec", lambda name: None)
    check_tracker(None)
    with pytest.raises(UserError, match=r"tracking.kind is tensorboard, but the package .* not installed"):
        start_tracking(SUITE, run.out)


def test_the_command_writes_what_a_finished_study_has(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.finish(rows(3))
    run.write("suite.yaml", dump_suite(SUITE))
    assert command.main(["track", str(run.out)]) == 0
    assert capsys.readouterr().out == (
        f"1 runs had something new. Look at them with: tensorboard --logdir {run.out / 'tracking'}\n"
    )
    assert run.losses() == losses_of(rows(3))
