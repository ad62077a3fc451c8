"""Figures are drawn from the right numbers, and twice the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from pipeline_lib.core.errors import UserError
from pipeline_lib.metrics import truth_ratio as reference
from pipeline_lib.reporting import style
from pipeline_lib.reporting.catalog import FIGURES
from pipeline_lib.reporting.figures import build_figure, draw_figure
from pipeline_lib.reporting.figures.truth_ratio import RATIOS
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.style import marks
from tests.paths import REPO
from tests.reporting.study import Study, without_lines, write_jsonl
from tests.reporting.tasks import Texts


def _figure(name: str, study: Study) -> Figure:
    return build_figure(name, Inputs(study.paths(*FIGURES[name].needs)))


def _points(ax: Any) -> list[tuple[float, float]]:
    """Means: lines of one point that are not the caps of error bars."""
    found = [line.get_data() for line in ax.lines if line.get_marker() not in ("|", "_")]
    return [(float(x[0]), float(y[0])) for x, y in found if np.size(x) == 1]


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_written_twice_the_same(name: str, study: Study, tmp_path: Path) -> None:
    paths = study.paths(*FIGURES[name].needs)
    draw_figure(name, paths, tmp_path / "a.svg", tmp_path / "a.png")
    draw_figure(name, reversed(paths), tmp_path / "b.svg", tmp_path / "b.png")
    svg = (tmp_path / "a.svg").read_bytes()
    assert svg == (tmp_path / "b.svg").read_bytes()
    assert b"<dc:date>" not in svg
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", FIGURES)
def test_figure_of_one_seed_and_one_method(name: str, root: Path, tmp_path: Path) -> None:
    study = Study(root, seeds=(1,), methods={"NPO": 0.8}, diverged={("NPO", "sophia", 1): 1}).write()
    draw_figure(name, study.paths(*FIGURES[name].needs), tmp_path / "a.svg", tmp_path / "a.png")
    assert (tmp_path / "a.svg").stat().st_size > 5000


def test_distance_shows_each_row_as_trained_and_at_equal_retention(root: Path) -> None:
    numbers: dict[tuple[str, str, int, str, str], float] = {}
    for seed, (trained, equal) in {1: (0.2, 0.5), 2: (0.3, 0.6), 3: (0.4, 0.7)}.items():
        numbers["NPO", "sophia", seed, "forget", "ks_statistic"] = trained
        numbers["NPO", "sophia", seed, "forget", "ks_statistic_at_equal_retain"] = equal
    figure = _figure("distance", Study(root, numbers=numbers, equal_retain=True).write())
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["GradDiff", "NPO"]
    ax = figure.axes[1]
    names = [label.get_text() for label in ax.get_yticklabels()]
    place = names.index("Sophia")
    assert names[0] == "original"
    near = {round(y - place, 2): x for x, y in _points(ax) if abs(y - place) < 0.5}
    assert near == {-0.17: pytest.approx(0.3), 0.17: pytest.approx(0.6)}


def test_tradeoff_points(root: Path) -> None:
    numbers: dict[tuple[str, str, int, str, str], float] = {}
    for seed, (x, y) in {1: (0.2, 0.5), 2: (0.3, 0.6), 3: (0.4, 0.7)}.items():
        numbers["NPO", "sophia", seed, "forget", "ks_statistic"] = x
        numbers["NPO", "sophia", seed, "utility", "model_utility"] = y
    figure = _figure("tradeoff", Study(root, numbers=numbers).write())
    # Under the first title is a line of room for the note on the right.
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["GradDiff\n", "NPO"]
    assert any(np.allclose(point, (0.3, 0.6)) for point in _points(figure.axes[1]))
    assert not any(np.allclose(point, (0.3, 0.6)) for point in _points(figure.axes[0]))
    # Five optimisers and the two anchors in each panel, `retrained` at distance 0.
    assert [len(_points(ax)) for ax in figure.axes] == [7, 7]
    assert all(any(x == 0 for x, _ in _points(ax)) for ax in figure.axes)
    assert figure.axes[0].get_title(loc="right") == "Signum: 1 of 3 diverged"


def test_tradeoff_without_truth_ratios_shows_the_next_that_judges(root: Path) -> None:
    study = Study(root).write()
    without_lines(root / "metrics.csv", ",ks_statistic,", ",forget_quality", ",truth_ratio,")
    assert _figure("tradeoff", study).axes[0].get_xlabel() == "Forget probability (dashed: retrained)"
    assert len(_figure("truth_ratio", study).axes[0].lines) == 0


def test_truth_ratio_curves(study: Study) -> None:
    ax = _figure("truth_ratio", study).axes[1]
    curves = {str(line.get_label()).split(",")[0]: line.get_data() for line in ax.lines}
    assert list(curves) == [
        "original", "retrained", "AdamW", "Signum", "Sophia", "Sophia (published)", "Sophia (as released)",
    ]  # fmt: skip
    x, y = (np.asarray(values) for values in curves["original"])
    assert len(x) == 2 + 3 * 40 and y[0] == 0 and y[-1] == 1
    medians = {name: float(np.median(np.asarray(data[0])[1:-1])) for name, data in curves.items()}
    assert medians["original"] > medians["AdamW"] > medians["Sophia"] > medians["retrained"]


def test_truth_ratio_by_hand_and_as_evaluation_has_it() -> None:
    record = {"id": "a", "paraphrase_nll": 4.0, "paraphrase_tokens": 4}
    record |= {"distractor_nll": [6.0, 2.0], "distractor_tokens": [2, 2]}
    # Per token: right 1, wrong 3 and 1, mean 2; log R = 2 - 1.
    assert RATIOS.of(record, "here") == pytest.approx(1.0)
    assert reference.log_truth_ratio(4.0, 4, [6.0, 2.0], [2, 2]) == pytest.approx(1.0)
    with pytest.raises(UserError, match="here: no truth ratio can be had from record 'a'"):
        RATIOS.of({**record, "distractor_nll": []}, "here")
    with pytest.raises(UserError, match="the truth ratio of record 'a' is nan"):
        RATIOS.of({**record, "paraphrase_nll": float("nan")}, "here")


@pytest.mark.parametrize("methods", [{"NPO": 0.8}, {"NPO": 0.8, "GradDiff": 1.0}], ids=["narrow", "wide"])
def test_a_legend_has_every_group_and_is_not_cut_off(methods: dict[str, float], root: Path) -> None:
    long = "A method with a name that is long"
    study = Study(root, seeds=(1,), methods=methods, untrained=(long,), diverged={}).write()
    with matplotlib.rc_context(style.RC):
        figure = _figure("tradeoff", study)
        figure.draw_without_rendering()
        (legend,) = figure.legends
        box = legend.get_window_extent()
    heads = [text.get_text() for text in legend.get_texts() if text.get_fontweight() == "bold"]
    assert sorted(heads) == ["First order", "For comparison", "Neither order", "Second order"]
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width


def test_trajectory_lines(root: Path) -> None:
    forget, retain = _figure("trajectory", Study(root).write()).axes[:2]
    assert forget.get_yscale() == "log" and retain.get_yscale() == "linear"
    longest = [line for line in forget.lines if np.size(line.get_xdata()) > 1]
    assert [np.size(line.get_xdata()) for line in longest] == [50] * 5
    crosses = [np.asarray(line.get_xdata()).tolist() for line in forget.lines if line.get_marker() == "x"]
    assert crosses == [[22.0]]  # the last step that was taken


def test_an_objective_without_retain_loss_says_so(root: Path) -> None:
    study = Study(root, seeds=(1,), diverged={}).write()
    for path in study.paths("steps.jsonl"):
        if "NPO" in path.parts:
            text = path.read_text().replace('"retain_loss": ', '"retain_loss": null, "x": ')
            path.write_text(text)
    retain = next(ax for ax in _figure("trajectory", study).axes[2:] if "Retain" in ax.get_ylabel())
    assert retain.get_title(loc="left") == "NPO"
    assert [text.get_text() for text in retain.texts] == ["not part of this objective"]


def test_what_optimisers_log_has_panels_of_its_own(root: Path) -> None:
    """Each only where a run of the method logs it; curvature at the steps of its estimates."""
    study = Study(root, seeds=(1,), diverged={}).write()
    for path in study.paths("steps.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["update_norm"] = 0.01 * row["step"] if path.parts[-3] == "signum" else None
            estimated = path.parts[-3] == "sophia" and row["step"] % 10 == 1
            row["curvature_mean"] = 1e-6 * row["step"] ** 2 if estimated else None
            if "NPO" in path.parts:
                row["clipped_share"] = row["curvature_mean"] = row["update_norm"] = None
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    axes = _figure("trajectory", study).axes
    losses = ["Forget loss (nats / token)", "Retain loss (nats / token)"]
    names = [ax.get_ylabel() for ax in axes]
    assert names == [*losses, "Clipped share", "Update norm", "Mean curvature", *losses]
    clipped, update, curvature = axes[2:5]
    assert [len(ax.lines) for ax in (clipped, update, curvature)] == [3, 1, 1]
    x, y = (np.asarray(values) for values in curvature.lines[0].get_data())
    assert x.tolist() == [1, 11, 21, 31, 41]
    assert y == pytest.approx(1e-6 * x**2)
    assert curvature.get_yscale() == "log" and curvature.get_ylim()[0] == pytest.approx(0.8e-6)
    assert np.asarray(update.lines[0].get_ydata())[-1] == pytest.approx(0.5)
    low, high = clipped.get_ylim()
    assert low <= 0 and high >= 1


def test_directions_have_a_line_where_a_run_logs_a_cosine(root: Path) -> None:
    """The share of the norm alone, which every run of second order logs, makes no line of its own."""
    few: dict[str, Any] = {"seeds": (1,), "methods": {"GradDiff": 1.0, "NPO": 0.8}, "diverged": {}}
    study = Study(root, **few, optimizers=("signum", "sophia")).write()
    for path in study.paths("steps.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            if path.parts[-3] == "sophia":
                row["clipped_norm_share"] = 0.99
                row["cosine_adamw"] = 0.01 * row["step"] if "NPO" in path.parts else None
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    axes = _figure("trajectory", study).axes
    names = [ax.get_ylabel() for ax in axes if "oss" not in ax.get_ylabel()]
    steps = ["Clipped share", "Update norm"]
    assert names == [*steps, *steps, "Clipped share of norm²", "Cosine with AdamW"]
    share, cosine = axes[-2:]
    assert [len(ax.lines) for ax in (share, cosine)] == [1, 1]
    assert np.asarray(cosine.lines[0].get_ydata()) == pytest.approx(0.01 * np.arange(1, 51))
    assert share.get_ylim() == cosine.get_ylim() == (-0.03, 1.03)


def test_a_single_estimate_is_a_dot_and_a_negative_mean_is_shown(root: Path) -> None:
    """Hutchinson's estimates may be negative in the mean."""
    study = Study(root, seeds=(1,), methods={"NPO": 1.0}, diverged={}).write()
    for path in study.paths("steps.jsonl"):
        rows = '{{"step": {0}, "forget_loss": 1.0, "retain_loss": 1.0, "curvature_mean": {1}}}\n'
        path.write_text("".join(rows.format(i, -2e-6 if i == 1 else "null") for i in range(1, 9)))
    axes = _figure("trajectory", study).axes
    assert [ax.get_ylabel() for ax in axes[2:]] == ["Mean curvature"]
    assert {line.get_marker() for line in axes[2].lines} == {"."}
    assert axes[2].get_yscale() == "linear" and axes[2].get_ylim()[0] <= -2e-6


def _losses(root: Path, forget: list[float]) -> Any:
    """The panel of the forget loss of runs that all had these losses."""
    study = Study(root, seeds=(1,), methods={"NPO": 1.0}, optimizers=("adamw",), diverged={}).write()
    rows = [{"step": i, "forget_loss": loss, "retain_loss": 1.0} for i, loss in enumerate(forget, start=1)]
    for path in study.paths("steps.jsonl"):
        write_jsonl(path, rows)
    return _figure("trajectory", study).axes[0]


@pytest.mark.parametrize(("steps", "points", "first"), [(200, 100, 1.5), (201, 67, 2.0), (250, 84, 2.0)])
def test_many_steps_are_averaged(steps: int, points: int, first: float, root: Path) -> None:
    """Windows of ceil(250 / 100) = 3 steps: 84 points; the first at step 2, the mean of 1, 2, 3."""
    x, y = _losses(root, [float(step) for step in range(1, steps + 1)]).lines[0].get_data()
    assert np.size(x) == points and x[0] == y[0] == first


@pytest.mark.parametrize(("last", "scale"), [(29.5, "linear"), (30.0, "linear"), (30.5, "log")])
def test_losses_that_span_a_factor_of_30_have_a_logarithmic_axis(last: float, scale: str, root: Path) -> None:
    """Of their 5 % quantile, which is 1: one low value does not make the axis."""
    losses = [0.5, *[1.0] * 7, *[2.0] * 91, last]
    assert _losses(root, losses).get_yscale() == scale


@pytest.mark.parametrize(("largest", "scale"), [(9.9, "linear"), (10.0, "linear"), (10.1, "log")])
def test_a_perplexity_that_grows_fivefold_has_a_logarithmic_axis(
    largest: float, scale: str, root: Path
) -> None:
    rows = [("GradDiff", "adamw"), ("GradDiff", "sophia"), ("original", "none"), ("retrained", "none")]
    numbers = {(*row, 1, "retain", "token_perplexity"): 2.0 for row in rows}
    numbers["GradDiff", "sophia", 1, "retain", "token_perplexity"] = largest
    few: dict[str, Any] = {"methods": {"GradDiff": 1.0}, "optimizers": ("adamw", "sophia"), "diverged": {}}
    ax = _figure("tradeoff", Texts(root, seeds=(1,), numbers=numbers, **few).write()).axes[0]
    assert ax.get_ylabel().startswith("Retain token perplexity") and ax.get_yscale() == scale


def test_cost_points(study: Study) -> None:
    time, memory, clipped = _figure("cost", study).axes
    assert time.get_xlabel() == "Training time (s)" and memory.get_xlabel() == "Peak memory (MiB)"
    means = [x for x, _ in _points(time)]
    assert len(means) == 10 and means[2] == pytest.approx(50 * 0.05408)
    assert [text.get_text() for text in clipped.texts] == ["no clipping"] * 4


@pytest.mark.parametrize(
    ("seconds", "mebibytes", "labels", "largest"),
    [
        (599.0, 2047.0, ["Training time (s)", "Peak memory (MiB)"], [599, 2047]),
        (600.0, 2048.0, ["Training time (min)", "Peak memory (GiB)"], [10, 2]),
    ],
)
def test_cost_has_the_unit_of_the_largest(
    seconds: float, mebibytes: float, labels: list[str], largest: list[float], root: Path
) -> None:
    study = Study(root, seeds=(1,), methods={"NPO": 1.0}, optimizers=("adamw", "sophia"), diverged={}).write()
    (run,) = (path for path in study.paths("run.json") if "sophia" in path.parts)
    made = json.loads(run.read_text()) | {"train_time_s": seconds, "peak_memory_mb": mebibytes}
    run.write_text(json.dumps(made))
    study.collect()
    axes = _figure("cost", study).axes[:2]
    assert [ax.get_xlabel() for ax in axes] == labels
    assert [max(x for x, _ in _points(ax)) for ax in axes] == largest


def test_first_and_second_order_differ_in_colour_marker_and_line(study: Study) -> None:
    found = marks(Inputs(study.paths("runs.json")).rows)
    assert len({mark.colour for mark in found.values()}) == len({m.marker for m in found.values()}) == 5
    assert [mark.line for mark in found.values()] == ["-", "-", "--", "--", "--"]


@pytest.mark.parametrize(
    ("imported", "heavy"),
    [
        (
            "from pipeline_lib.reporting import collect, figures, html\n"
            "from pipeline_lib.reporting.catalog import FIGURES, TABLES\n"
            "[item.load() for item in (*FIGURES.values(), *TABLES.values())]\n",
            {"torch", "transformers"},
        ),
        ("import pipeline_lib.reporting.catalog\n", {"matplotlib", "pandas"}),
    ],
    ids=["all without torch", "the catalogue without matplotlib or pandas"],
)
def test_heavy_packages_are_not_imported(imported: str, heavy: set[str]) -> None:
    code = f"{imported}import sys\nsys.exit(bool({heavy} & set(sys.modules)))\n"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPO, check=False).returncode == 0
