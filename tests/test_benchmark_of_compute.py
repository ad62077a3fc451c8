"""benchmarks/compute.py pairs two studies run by run, and what it emulates rounds as bf16 does."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
from pathlib import Path
from statistics import fmean, stdev

import pytest
import yaml
from scipy import stats

from tests.paths import REPO
from tests.reporting.study import Study

SCRIPT = REPO / "benchmarks" / "compute.py"
CHANGES = {1: 0.010, 2: 0.016, 3: 0.034}  # what bf16 adds to the probability of forget answers, by seed
OF_SOPHIA = 0.004  # and more for its runs


def study_in(kind: str, root: Path) -> Path:
    """A finished study whose suite says that it was computed in this kind."""
    study = Study(root, diverged={("GradDiff", "signum", 2): 23}).write()
    file = study.root / "suite.yaml"
    suite = yaml.safe_load(file.read_text())
    for block in ("finetune", "unlearn"):
        suite[block] = {**suite.get(block, {}), "compute": kind}
    file.write_text(yaml.safe_dump(suite))
    return study.root


def change(root: Path) -> dict[tuple[str, str, int], float]:
    """Change the probabilities of unlearned models; those of fp32, by method, optimiser and seed."""
    file, found = root / "metrics.csv", {}
    with file.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        if (row["split"], row["metric"]) == ("forget", "probability") and row["optimizer"] != "none":
            seed = int(row["seed"])
            found[row["method"], row["optimizer"], seed] = float(row["value"])
            more = CHANGES[seed] + (OF_SOPHIA if row["optimizer"] == "sophia" else 0.0)
            row["value"] = str(float(row["value"]) + more)
    with file.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return found


def table(*folders: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, folders)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(REPO)})


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    root = tmp_path_factory.mktemp("compute")
    folders = [study_in(kind, root / kind / "demo") for kind in ("fp32", "bf16")]
    return folders, change(folders[1])


def test_a_line_is_the_arithmetic_of_its_pairs(pair):
    folders, values = pair
    done = table(*folders)
    assert done.returncode == 0, done.stderr
    lines = {line["metric"]: line for line in csv.DictReader(done.stdout.splitlines())}
    line = lines["Forget probability"]
    changed = {key: CHANGES[key[2]] + (OF_SOPHIA if key[1] == "sophia" else 0) for key in values}
    assert line["runs"] == str(len(values)) == "29"  # 10 rows of 3 seeds, of which one run diverged
    assert float(line["fp32"]) == pytest.approx(fmean(values.values()), abs=5e-4)
    assert float(line["bf16"]) == pytest.approx(fmean(values[key] + changed[key] for key in values), abs=5e-4)
    means = [fmean(more for key, more in changed.items() if key[2] == seed) for seed in CHANGES]
    half = stats.t.ppf(0.975, 2) * stdev(means) / math.sqrt(3)
    assert float(line["change"]) == pytest.approx(fmean(means), abs=5e-4)
    ends = [float(line["low"]), float(line["high"])]
    assert ends == pytest.approx([fmean(means) - half, fmean(means) + half], abs=5e-4)
    assert line["largest change"] == "+0.038"
    rows = {key[:2] for key in values}
    spreads = [stdev(value for key, value in values.items() if key[:2] == row) for row in rows]
    assert float(line["SD over seeds"]) == pytest.approx(fmean(spreads), abs=5e-4)
    others = [other for name, other in lines.items() if name != "Forget probability"]
    assert others and all(other["change"] == "+0.000" and not other["low"] for other in others)


def test_studies_that_cannot_be_paired_are_refused(pair, tmp_path):
    (fp32, bf16), _ = pair
    assert "expected a study with finetune.compute: fp32, found bf16" in table(bf16, fp32).stderr
    other = study_in("bf16", tmp_path / "demo")
    suite = yaml.safe_load((other / "suite.yaml").read_text())
    suite["unlearn"]["epochs"] = 77
    (other / "suite.yaml").write_text(yaml.safe_dump(suite))
    done = table(fp32, other)
    assert done.returncode == 1 and "differ in more than `compute`" in done.stderr
    assert table(fp32).returncode == 2


EMULATED = """
import sys, torch
kept = sys.modules["sitecustomize"].kept
torch.manual_seed(0)
a, b = torch.randn(40, 64, requires_grad=True), torch.randn(24, 64, requires_grad=True)
def same(found, exact):
    return float((found == exact.bfloat16()).float().mean()) > 0.99
with torch.autocast("cpu", torch.bfloat16):
    y, pairs = torch.nn.functional.linear(a, b), torch.bmm(a.view(4, 10, 64), b.view(4, 64, 6))
wide = [x.detach().bfloat16().double() for x in (a, b)]
assert y.dtype == torch.bfloat16 and same(y, wide[0] @ wide[1].T)
assert same(pairs, wide[0].view(4, 10, 64) @ wide[1].view(4, 64, 6))
y.float().sum().backward()
assert a.grad.dtype == torch.float32
assert same(a.grad.bfloat16(), torch.ones(40, 24, dtype=torch.double) @ wide[1])
plain = torch.randn(9, 5)
assert torch.equal(plain @ plain.T, plain.matmul(plain.T))
assert plain.double().mm(plain.double().T).dtype == torch.double
print("emulated")
"""


@pytest.mark.filterwarnings("ignore")
def test_emulated_products_are_rounded_once():
    environment = {"PYTHONPATH": str(REPO / "benchmarks" / "emulated")}
    command = [sys.executable, "-c", EMULATED, "fork_server.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stdout == "emulated\n", done.stderr
