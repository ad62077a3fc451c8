"""benchmarks/clipped_share.py: its model by hand, its bound, and what docs/measurements keeps."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import math
import sys
from statistics import fmean
from types import ModuleType

import pytest
import torch
from PIL import Image

from pipeline_lib.optimizers import OPTIMIZERS
from tests.methods import stepper
from tests.paths import REPO

MEASUREMENTS = REPO / "docs" / "measurements"


def record() -> list[dict[str, str]]:
    with (MEASUREMENTS / "clipped_share.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    folder = REPO / "benchmarks"
    spec = importlib.util.spec_from_file_location("clipped_share", folder / "clipped_share.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(folder))  # as for a script, which imports what lies beside it
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


def test_the_constant_is_that_of_the_defaults() -> None:
    method = OPTIMIZERS.parse({"kind": "sophia_as_released", "learning_rate": 1.0})
    assert method.rho * method.BATCH_CONSTANT == pytest.approx(204.8)
    assert round(6.7e9**0.5 / 1000) == 82  # as docs/optimizers.md says
    assert (method.beta1**2, method.beta2) == (pytest.approx(0.81), 0.95)


@pytest.mark.parametrize("parameters", [1e3, 1e4, 3e4])
@pytest.mark.parametrize("persistent", [0.0, 1.0])
def test_the_first_step_by_hand(parameters: float, persistent: float, script: ModuleType) -> None:
    """m = 0.19 z / sqrt(P), 204.8 h = 10.24 z^2 / P: clipped if |z| <= 0.19 sqrt(P) / 10.24."""
    (found,) = script.simulated(parameters, "normal", persistent, steps=1)
    expected = math.erf(0.19 * parameters**0.5 / 10.24 / 2**0.5)
    error = (expected * (1 - expected) / script.COORDINATES) ** 0.5
    assert 0.3 < expected < 1
    assert found["clipped_share"] == pytest.approx(expected, abs=4 * error)


def test_many_steps_of_one_gradient_by_hand(script: ModuleType) -> None:
    """Then m = z / sqrt(P) and 204.8 h = 204.8 z^2 / P: clipped if |z| <= sqrt(P) / 204.8."""
    found = script.simulated(1e5, "normal", 1.0, steps=200)[-1]
    expected = math.erf(1e5**0.5 / 204.8 / 2**0.5)
    assert found["clipped_share"] == pytest.approx(expected, abs=0.004)


def test_the_first_step_of_the_heavy_law_by_hand(script: ModuleType) -> None:
    """Clipped if |z| <= 0.19 sqrt(P) / (10.24 c), in the mean over c; the mean of c^2 is 1."""
    n = torch.linspace(-12, 12, 100_001, dtype=torch.float64)
    density = (-n.square() / 2).exp() / math.sqrt(2 * math.pi)
    sizes = (script.SPREAD * n - script.SPREAD**2).exp()
    assert float(torch.trapezoid(density * sizes.square(), n)) == pytest.approx(1, rel=1e-6)
    shares = torch.erf(0.19 * 1e4**0.5 / 10.24 / 2**0.5 / sizes)
    expected = float(torch.trapezoid(density * shares, n))
    (found,) = script.simulated(1e4, "heavy", 0.0, steps=1)
    error = (expected * (1 - expected) / script.COORDINATES) ** 0.5
    assert found["clipped_share"] == pytest.approx(expected, abs=4 * error)


def test_what_escapes_has_little_of_the_momentum() -> None:
    """|m| < 204.8 h in every coordinate that is not clipped, and sum h <= 1 for gradients of norm 1."""
    theta = torch.nn.Parameter(torch.zeros(2000, dtype=torch.float64))
    optimizer = stepper("sophia_as_released", [theta], lr=1.0)
    draw = torch.Generator().manual_seed(0)
    for _ in range(30):
        gradient = torch.randn(2000, generator=draw, dtype=torch.float64)
        theta.grad = gradient / gradient.norm()
        before = theta.detach().clone()
        optimizer.step()
        m, h = (optimizer.state[theta][name] for name in ("momentum", "curvature"))
        free = (theta.detach() - before).abs() < 1 - 1e-12
        assert torch.equal(free, m.abs() < 204.8 * h + 1e-15)
        assert h.sum() <= 1 + 1e-12 and m[free].abs().sum() < 204.8 * h[free].sum() + 1e-12 <= 204.8


def test_the_record_is_what_the_script_prints(script: ModuleType) -> None:
    """The simulated lines, a part of them computed anew; other lines are measured, and say so."""
    rows = record()
    assert tuple(rows[0]) == script.COLUMNS
    simulated = [row for row in rows if row["how"] == "simulated"]
    assert len(simulated) == len(script.LAWS) * len(script.PERSISTENT) * len(script.SIZES)
    assert {row["how"] for row in rows} == {"simulated", "measured"}
    for row in simulated[:: len(script.SIZES) + 1]:
        log = script.simulated(float(row["parameters"]), row["law"], float(row["persistent"]), script.STEPS)
        anew = script.line("simulated", log)
        for name in ("first", "last", *script.MEANS):
            assert float(anew[name]) == pytest.approx(float(row[name]), abs=2e-3), (row, name)


@pytest.mark.parametrize("steps", [1, 2, 20])
def test_the_dashed_line_has_the_norms_of_orthogonal_gradients(steps: int, script: ModuleType) -> None:
    """Gradients along different axes: their norm is 1, and those of two steps are orthogonal."""
    count = 64
    theta = torch.nn.Parameter(torch.zeros(count, dtype=torch.float64))
    optimizer = stepper("sophia_as_released", [theta], lr=1.0)
    for axis in torch.eye(count, dtype=torch.float64)[:steps]:
        theta.grad = axis.clone()
        optimizer.step()
    m, h = (optimizer.state[theta][name] for name in ("momentum", "curvature"))
    for parameters in (1e6, 6.7e9):
        left = float(204.8 * h.sum() / (m.norm() * parameters**0.5))
        assert script.even_share(parameters, steps) == pytest.approx(1 - left, rel=1e-9)
    assert script.even_share(1e6, 1) == pytest.approx(1 - 204.8 * 0.05 / (0.19 * 1000))
    assert script.even_share(100, 1) == 0


def test_the_figure_shows_the_record(script: ModuleType) -> None:
    """Bars from the lowest to the highest simulated share, points at the measured ones, in both panels."""
    rows = record()
    panels = script.figure(rows).axes
    ways = [(panels[0], "clipped_share", "clipped_share", "20"), (panels[1], "late", "last", "100")]
    assert [ax.get_title() for ax in panels] == ["mean of steps 1 to 20", "step 100"]
    for ax, of_simulated, of_measured, steps in ways:
        (bars,) = ax.collections
        for size, bar in zip(script.SIZES, bars.get_segments(), strict=True):
            shares = [
                float(row[of_simulated])
                for row in rows
                if row["how"] == "simulated" and float(row["parameters"]) == size
            ]
            assert len(shares) == 4 and bar[:, 0].tolist() == [size, size]
            assert sorted(1 - bar[:, 1]) == pytest.approx([min(shares), max(shares)], abs=1e-12)
        points, dashed = ax.lines
        wanted = {
            float(row["parameters"]): float(row[of_measured])
            for row in rows
            if row["how"] == "measured" and row["steps"] == steps
        }
        assert wanted and points.get_label() == "measured" and bars.get_label().startswith("simulated")
        assert dict(zip(points.get_xdata(), 1 - points.get_ydata(), strict=True)) == pytest.approx(wanted)
        first, last = dashed.get_ydata()[[0, -1]]
        assert first / last == pytest.approx(6700**0.5), "the rest falls with the root of the size"
        names = dict(zip(ax.get_yticks(), ax.get_yticklabels(), strict=True))
        assert all(1 - tick == pytest.approx(float(name.get_text())) for tick, name in names.items())
        assert ax.yaxis_inverted() and ax.get_yscale() == ax.get_xscale() == "log"
    above, below = (fmean(script.even_share(1e6, step) for step in s) for s in (range(1, 21), [100]))
    assert [1 - ax.lines[1].get_ydata()[0] for ax in panels] == pytest.approx([above, below])
    assert [tick.get_text() for tick in panels[1].get_xticklabels()] == list(script.SIZE_NAMES)


def test_the_kept_figure_is_of_the_kept_record(script: ModuleType, tmp_path, monkeypatch) -> None:
    def source(file) -> str:
        with Image.open(file) as image:
            return image.text["Source"]

    table, kept = MEASUREMENTS / "clipped_share.csv", MEASUREMENTS / "clipped_share.png"
    assert source(kept).endswith(hashlib.sha256(table.read_bytes()).hexdigest()), (
        f"{table.name} has changed: python benchmarks/clipped_share.py --figure {kept.relative_to(REPO)}"
    )
    monkeypatch.setattr(sys, "argv", ["clipped_share.py", "--figure", str(tmp_path / "anew.png")])
    script.main()
    assert source(tmp_path / "anew.png") == source(kept)


def test_a_small_model_is_measured(script: ModuleType, tmp_path, monkeypatch) -> None:
    for name in ("forget10", "retain90"):
        lines = [
            f'{{"question": "What is {name} {i}?", "answer": "It is number {i} of {name}."}}\n'
            for i in range(8)
        ]
        (tmp_path / f"{name}.json").write_text("".join(lines))

    def rows(*steps: str) -> list[dict[str, str]]:
        given = ["--data", str(tmp_path), "--hidden", "16", "--layers", "1", "--epochs", "1"]
        given += ["--steps", *steps, "--batch", "2", "--name", "small"]
        monkeypatch.setattr(sys, "argv", ["clipped_share.py", *given])
        out = tmp_path / "out.csv"
        with out.open("w") as file, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", file)
            script.main()
        return list(csv.DictReader(out.read_text().splitlines()))

    one, two = rows("1", "2")
    assert (one["steps"], two["steps"]) == ("1", "2")
    assert rows("2") == [two], "every number of steps is a run of its own"
    assert (two["how"], two["model"], two["law"]) == ("measured", "small", "")
    assert int(two["parameters"]) > 1000 and 0 < float(two["clipped_share"]) <= 1
    assert float(two["grad_norm"]) > 0
