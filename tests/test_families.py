"""Methods are found, read without torch, documented, and a stranger's needs no edit elsewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.families import Family
from pipeline_lib.curvature import ESTIMATORS
from pipeline_lib.influence import SOLVERS
from pipeline_lib.objectives import OBJECTIVES
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.smoothing import SMOOTHINGS
from tests.paths import REPO
from tests.study.suites import small

FAMILIES: dict[str, Family[Any]] = {
    "objectives": OBJECTIVES,
    "optimizers": OPTIMIZERS,
    "curvature": ESTIMATORS,
    "influence": SOLVERS,
    "smoothing": SMOOTHINGS,
}
WITHOUT_TORCH = """
import sys

sys.modules["torch"] = sys.modules["transformers"] = None
from tests.test_families import FAMILIES, methods_of

for family in FAMILIES:
    for method in methods_of(family):
        known = {name: value for base in type(method).__mro__[:-2] for name, value in vars(base).items()}
        traits = [name for name, value in known.items() if isinstance(value, property)]
        print(method.kind, method.model_dump(), method.modules(), [getattr(method, name) for name in traits])
"""
STRANGERS = """
import sys
from pathlib import Path

import torch

from pipeline_lib.data.batching import collate
from pipeline_lib.objectives import OBJECTIVES
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.optimizers.make import make_optimizer
from tests.tiny import random_examples, tiny_model

model = tiny_model()
objective = OBJECTIVES.parse({"kind": "Hinge", "bound": 50.0, "gamma": 0.0})
batches = collate(random_examples(4, 1), 0), collate(random_examples(4, 2), 0)
optimizer = make_optimizer(OPTIMIZERS.parse({"kind": "soft_sign", "learning_rate": 1e-2}), model)
for _ in range(5):
    losses = objective(model, *batches)
    losses.total.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(float(losses.total), float(losses.forget), optimizer.statistics["update_norm"])
"""


def methods_of(family: str) -> list[Any]:
    """One method of every kind, with its defaults."""
    given = {"learning_rate": 1e-3} if family == "optimizers" else {}
    sgd = {"kind": "sgd", "learning_rate": 1e-3}
    needed = {"hybrid": {"first": sgd, "second": sgd}}
    methods = FAMILIES[family]
    return [methods.parse({"kind": kind, **given, **needed.get(kind, {})}) for kind in methods.kinds()]


def python(code: str, *places: Path) -> str:
    """What a process prints that finds the library in the first of these places."""
    path = os.pathsep.join(map(str, [*places, REPO]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=places[0] if places else REPO,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


# --- found and read -------------------------------------------------------------------------------


def test_every_method_is_read_without_torch() -> None:
    assert len(python(WITHOUT_TORCH).splitlines()) == sum(len(f.kinds()) for f in FAMILIES.values())


def test_kinds_come_by_module_and_a_module_is_of_its_kind() -> None:
    for name, family in FAMILIES.items():
        modules = [kind.__module__ for kind in family.kinds().values()]
        assert modules == sorted(modules) and all(m.startswith(f"pipeline_lib.{name}.") for m in modules)


def test_a_run_depends_on_its_methods_and_what_they_choose() -> None:
    sophia = OPTIMIZERS.parse({"kind": "sophia", "learning_rate": 1, "estimator": "hutchinson_gaussian"})
    assert sophia.modules() == ("pipeline_lib.optimizers.sophia", "pipeline_lib.curvature.hutchinson")
    influence = OPTIMIZERS.parse({"kind": "influence", "solver": "lissa"})
    assert influence.modules() == (
        "pipeline_lib.optimizers.influence",
        "pipeline_lib.influence.lissa",
        "pipeline_lib.training.newton",
    )
    smoothed = OPTIMIZERS.parse({"kind": "sgd", "learning_rate": 1, "smoothing": {"kind": "sam"}})
    assert smoothed.modules() == ("pipeline_lib.optimizers.sgd", "pipeline_lib.smoothing.sam")
    assert OBJECTIVES.parse({"kind": "PO"}).modules() == ("pipeline_lib.objectives.po",)
    whp = OBJECTIVES.parse({"kind": "WHP"})
    assert whp.modules() == ("pipeline_lib.objectives.whp", "pipeline_lib.training.generic_labels")


def test_faults_are_named() -> None:
    with pytest.raises(UserError, match="kind: found 'NPOO'; did you mean 'NPO'"):
        OBJECTIVES.parse({"kind": "NPOO"})
    with pytest.raises(UserError, match="kind NPO: beta: found 0; must be greater than 0; gama: unknown key"):
        OBJECTIVES.parse({"kind": "NPO", "beta": 0, "gama": 1})


PAGES = [
    ("methods", "objectives"),
    ("methods", "curvature"),
    ("smoothing", "smoothing"),
    ("optimizers", "optimizers"),
    ("influence", "influence"),
]


@pytest.mark.parametrize(("page", "family"), PAGES)
def test_every_kind_is_documented(page: str, family: str) -> None:
    text = (REPO / "docs" / f"{page}.md").read_text()
    missing = [kind for kind in FAMILIES[family].kinds() if not re.search(rf"(?<!\w){kind}(?!\w)", text)]
    assert not missing, f"docs/{page}.md says nothing of {missing}"


# --- a stranger's method ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the library with the methods of CONTRIBUTING.md, each put where its first line says."""
    place = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("pipeline_lib", "workflow"):
        shutil.copytree(REPO / folder, place / folder, ignore=ignored)
    blocks = re.findall(r"```python\n# (\S+)\n(.*?)```", (REPO / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert {"pipeline_lib/objectives/hinge.py", "pipeline_lib/optimizers/soft_sign.py"} <= {*dict(blocks)}
    for name, code in blocks:
        (place / name).write_text(code)
    return place


def test_a_strangers_methods_are_checked_and_planned(copy: Path) -> None:
    raw = small(
        objectives={"Hinge": {"bound": 3}, "tight": {"kind": "Hinge"}},
        optimizers={"soft_sign": {"learning_rate": 1e-4}, "sophia": {"learning_rate": 1e-4}},
    )
    (copy / "suite.yaml").write_text(yaml.safe_dump(raw))
    main = "import sys; from pipeline_lib.__main__ import main; sys.exit(main({}))"
    assert "OK, 8 unlearning runs" in python(main.format(["validate", "suite.yaml"]), copy)
    plan = python(main.format(["plan", "suite.yaml"]), copy)
    assert "Hinge" in plan and "soft_sign" in plan
    python(main.format(["schema"]), copy)
    schema = json.loads((copy / "workflow/schemas/suite.schema.json").read_text())
    assert set(schema["$defs"]["Hinge"]["properties"]) == {
        "kind", "bound", "gamma", "forget_weight", "retain_loss_type"
    }  # fmt: skip
    assert "soft_sign" in schema["properties"]["optimizers"]["properties"]


def test_a_strangers_methods_train(copy: Path) -> None:
    """Five steps lower the loss, raise the forget NLL by as much, and log the length of each."""
    rows = [[float(word) for word in line.split()] for line in python(STRANGERS, copy).splitlines()]
    assert len(rows) == 5 and rows[-1][0] < rows[0][0] and min(row[2] for row in rows) > 0
    assert rows[-1][1] - rows[0][1] == pytest.approx(rows[0][0] - rows[-1][0], rel=1e-4)
