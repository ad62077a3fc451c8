"""The table of comparisons and the report's claims: one family, one rule, the same numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from pipeline_lib.reporting import style
from pipeline_lib.reporting.catalog import TABLES
from pipeline_lib.reporting.claims import findings
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.summary import Difference, Summary
from pipeline_lib.reporting.tables import build_table, write_table
from pipeline_lib.reporting.tables.comparisons import Comparison, Quantity, family
from tests.reporting.staged import MORE, write_staged
from tests.reporting.study import Study, without_lines, write_json

D = ("forget", "ks_statistic")
SIGN = {"first": "signum", "second": "adamw", "question": "Are sign steps enough?"}
CURVATURE = {"first": "sophia", "second": "signum", "question": "Does curvature add to sign steps?"}
RELEASED = {"first": "sophia_as_released", "second": "signum", "question": CURVATURE["question"]}


def entries(study: Study) -> list[Comparison]:
    return family(Summary(Inputs(study.paths(*TABLES["comparisons"].needs))), study.task, study.model)


def by_name(study: Study) -> dict[tuple[str, str, str, str], Comparison]:
    return {
        (e.row.key.method, e.row.key.optimizer, e.against.key.optimizer, e.quantity.metric): e
        for e in entries(study)
    }


def difference(value: float, p_holm: float | None, higher: bool | None) -> Difference:
    return Difference(value, None, None, 3, 40, "none", higher, p=p_holm, p_holm=p_holm)


def distances(values: dict[str, tuple[float, float, float]]) -> dict[tuple[str, str, int, str, str], float]:
    """KS D of NPO with these optimisers, for seeds 1 to 3."""
    return {
        ("NPO", optimizer, seed, *D): value
        for optimizer, three in values.items()
        for seed, value in zip((1, 2, 3), three, strict=True)
    }


def test_a_difference_by_hand(root: Path) -> None:
    numbers = distances({"adamw": (0.60, 0.62, 0.61), "sophia": (0.40, 0.41, 0.42)})
    found = by_name(Study(root, numbers=numbers).write())
    assert len(found) == 2 * 3 * 2 * 3  # methods, second-order and first-order rows, quantities
    d = found["NPO", "sophia", "adamw", "ks_statistic"].difference
    assert d is not None
    # -0.20, -0.21, -0.19: mean -0.20, s = 0.01, t = -0.2 sqrt(3) / 0.01 = -34.64. With 2 degrees of freedom
    # p = 1 - |t| / sqrt(2 + t^2) = 8.323e-4.
    assert d.p == pytest.approx(8.323e-4, rel=1e-3)
    assert d.p == pytest.approx(stats.ttest_rel([0.40, 0.41, 0.42], [0.60, 0.62, 0.61]).pvalue)
    # The quantile at q = 1 - 0.025 / 12 with 2 degrees of freedom is (2 q - 1) sqrt(2 / (4 q (1 - q))) =
    # 15.4435; half of the interval is 15.4435 * 0.01 / sqrt(3) = 0.08916.
    assert (d.value, d.low, d.high) == pytest.approx((-0.2, -0.28916, -0.11084), abs=1e-5)
    # Of T = (Z + shift) / W, W^2 is exponential with 2 degrees of freedom: W is below sqrt(-ln 0.2) = 1.2686
    # in 80 % of studies, and Z hardly matters beside a shift of 15.4435 * 1.2686 = 19.59 standard errors.
    assert d.detectable == pytest.approx(19.59 * 0.01 / 3**0.5, rel=5e-3)
    assert d.seeds == 3


def test_one_rule_for_verdict_and_claim() -> None:
    quantity = Quantity("retain", "probability", "Retain probability", "more", "less")
    for value, p, said in (
        (0.2, 0.04, "more"),
        (-0.2, 0.04, "less"),
        (0.2, 0.05, "no difference can be claimed"),
        (0.2, 0.9, "no difference can be claimed"),
        (0.2, None, "no test over seeds: no difference can be claimed"),
    ):
        entry = Comparison("", None, None, quantity, difference(value, p, True))  # type: ignore[arg-type]
        assert entry.verdict == said
        assert entry.claimed == (said in ("more", "less"))
    nothing = Comparison("", None, None, quantity, None)  # type: ignore[arg-type]
    assert nothing.verdict.startswith("no test over seeds") and not nothing.claimed


def test_each_quantity_is_a_family(root: Path) -> None:
    found = entries(Study(root).write())
    for quantity in dict.fromkeys(entry.quantity for entry in found):
        members = [entry.difference for entry in found if entry.quantity == quantity]
        p_values = [d.p for d in members if d and d.p is not None]
        smallest = min(p_values)
        assert len(p_values) == len(members) == 12
        adjusted = next(d.p_holm for d in members if d and d.p == smallest)
        assert adjusted == pytest.approx(min(1.0, 12 * smallest))
        for d in members:
            assert d is not None and d.p is not None and d.p_holm is not None and d.low is not None
            assert d.p <= d.p_holm <= 1
            # The interval leaves out 0 exactly where Bonferroni claims, and then Holm claims, too.
            assert (d.low > 0 or (d.high or 0) < 0) == (d.p < 0.05 / 12)
            assert d.p >= 0.05 / 12 or d.p_holm < 0.05


def test_ties_have_no_test_and_claim_nothing(root: Path) -> None:
    numbers = distances({"adamw": (0.50, 0.55, 0.60), "sophia": (0.40, 0.45, 0.50)})
    entry = by_name(Study(root, numbers=numbers).write())["NPO", "sophia", "adamw", "ks_statistic"]
    d = entry.difference
    assert d is not None and d.value == pytest.approx(-0.1)
    assert (d.low, d.p, d.p_holm, d.detectable) == (None, None, None, None)
    assert entry.verdict == "no test over seeds: no difference can be claimed"


def test_declared_comparisons_are_made_and_no_others(root: Path) -> None:
    study = Study(root, comparisons=[SIGN, CURVATURE, RELEASED]).write()
    found = entries(study)
    pairs = list(dict.fromkeys((e.question, e.row.display, e.against.display) for e in found))
    assert pairs == [
        (SIGN["question"], "GradDiff + Signum", "GradDiff + AdamW"),
        (SIGN["question"], "NPO + Signum", "NPO + AdamW"),
        (CURVATURE["question"], "GradDiff + Sophia", "GradDiff + Signum"),
        (CURVATURE["question"], "NPO + Sophia", "NPO + Signum"),
        (CURVATURE["question"], "GradDiff + Sophia (as released)", "GradDiff + Signum"),
        (CURVATURE["question"], "NPO + Sophia (as released)", "NPO + Signum"),
    ]
    assert len(found) == 6 * 3
    paths = {form: root / f"comparisons.{form}" for form in ("csv", "md", "tex")}
    write_table("comparisons", study.paths(*TABLES["comparisons"].needs), *paths.values())
    text = paths["md"].read_text()
    assert text.count("| **Are sign steps enough?** | |") == 1
    assert text.count(f"| **{CURVATURE['question']}** | |") == 1
    assert text.index("sign steps enough") < text.index("| NPO + Signum | NPO + AdamW | KS D |")
    assert r"\multicolumn{9}{l}{\emph{Does curvature add to sign steps?}} \\" in paths["tex"].read_text()
    assert "forget.ks_statistic minus signum: p (Holm)" in paths["csv"].read_text()


def test_questions_stay_together(root: Path) -> None:
    study = Study(root, comparisons=[CURVATURE, SIGN, RELEASED]).write()
    assert [e.question for e in entries(study)] == [CURVATURE["question"]] * 12 + [SIGN["question"]] * 6


def test_a_method_without_both_rows_is_left_out(root: Path) -> None:
    study = Study(root, comparisons=[CURVATURE]).write()
    runs = json.loads((root / "runs.json").read_text())
    kept = [run for run in runs if (run["method"], run["optimizer"]) != ("NPO", "signum")]
    (root / "runs.json").write_text(json.dumps(kept))
    without_lines(root / "metrics.csv", ",NPO,signum,")
    assert {e.row.key.method for e in entries(study)} == {"GradDiff"}


def test_at_equal_retention_where_it_was_measured(root: Path) -> None:
    study = Study(root, comparisons=[SIGN], equal_retain=True).write()
    (table,) = build_table("comparisons", Inputs(study.paths(*TABLES["comparisons"].needs)))
    assert [line.cells[1].text for line in table.lines[:5]] == [
        "KS D",
        "Forget probability",
        "Model utility",
        "KS D at equal retention",
        "Forget probability at equal retention",
    ]
    (main,) = build_table("main", Inputs(study.paths(*TABLES["main"].needs)))
    heads = [head.replace("\u00a0", " ") for head in main.columns[-3:]]
    assert heads == [
        "KS D at equal retention ↓ (n = 40)",
        "Forget probability at equal retention ↓ (n = 40)",
        "Length of the unlearning there (1 = as trained) (n = 40)",
    ]
    cells = {line.row.display: [cell.text for cell in line.cells[-3:]] for line in main.lines}
    assert cells["original"] == cells["retrained"] == ["–", "–", "–"]
    assert cells["GradDiff + AdamW"][2] == "0.950"
    assert not any("Not measured" in note for note in main.notes)


def said(study: Study) -> list[str]:
    inputs = Inputs(study.paths("runs.json", "metrics.csv", "costs.csv", "suite.yaml"))
    found = findings(inputs, study.task, study.model)
    return [line for finding in found for line in (finding.text, *finding.cases)]


def test_the_report_answers_the_declared_questions(root: Path) -> None:
    numbers = distances(
        {
            "adamw": (0.600, 0.620, 0.612),
            "signum": (0.603, 0.611, 0.619),
            "sophia": (0.2001, 0.2103, 0.2202),
        }
    )
    for metric in (("utility", "model_utility"), ("forget", "probability")):
        for seed in (1, 2, 3):
            for number, optimizer in enumerate(("adamw", "signum", "sophia")):
                numbers["NPO", optimizer, seed, *metric] = 0.5 + 0.01 * (seed * (number + 2) % 4)
    study = Study(root, methods={"NPO": 0.8}, diverged={}, numbers=numbers, comparisons=[SIGN, CURVATURE])
    lines = said(study.write())
    nothing = next(line for line in lines if line.startswith(SIGN["question"]))
    assert nothing.startswith(f"{SIGN['question']} No difference can be claimed. What these seeds could have")
    assert "with a probability of 80 %, a difference in: KS D 0." in nothing
    assert f"{CURVATURE['question']} A difference can be claimed in 1 of 1 pairs of rows." in lines
    claim = next(line for line in lines if line.startswith("NPO + Sophia against NPO + Signum: "))
    assert claim.startswith(
        "NPO + Sophia against NPO + Signum: closer to retrained (difference in KS D −0.401, "
    )
    assert "Holm's p" in claim and claim.count("difference in") == 1
    assert not any("second order against first order" in line for line in lines)


def test_the_gap_alone_decides(root: Path) -> None:
    """Where it was measured; what is claimed of it names the joint utility beside it."""
    study = Study(root, methods={"NPO": 0.8}, diverged={}, scored=True, retrained_seeds=(4, 5)).write()
    found = entries(study)
    of_gap = [entry for entry in found if entry.quantity.metric == "gap"]
    assert of_gap and any(entry.claimed for entry in of_gap)
    assert {entry.quantity.metric for entry in found if entry.claimed} == {"gap"}
    for entry in found:
        if entry.claimed:
            assert entry.utility is not None
            assert entry.verdict.endswith(f"retrained, joint utility {style.signed(entry.utility.value)}")
        elif entry.quantity.metric != "gap" and entry.difference and entry.difference.p_holm is not None:
            assert entry.verdict == "secondary: nothing is claimed"


def test_declared_recovery_is_of_one_family_with_the_gap(root: Path) -> None:
    """Two pairs of rows, one of them compared after a stage too: three tests, Holm's factors 3, 2 and 1."""
    declared = [
        {"first": "sophia", "second": "adamw", "question": "Which?", "after": ["other"]},
        {"first": "signum", "second": "adamw", "question": "Are sign steps enough?"},
    ]
    few: dict[str, Any] = {"methods": {"NPO": 0.8}, "optimizers": ("adamw", "signum", "sophia")}
    study = write_staged(root, scored=True, retrained_seeds=(4, 5), comparisons=declared, **few)
    found = entries(study)
    decides = [entry for entry in found if entry.quantity.decides]
    assert [(e.row.key.optimizer, e.row.key.after, e.quantity.metric, e.tests) for e in decides] == [
        ("sophia", "", "gap", 3),
        ("signum", "", "gap", 3),
        ("sophia", "other", "recovery", 3),
    ]
    of_gap, _, recovered = decides
    assert of_gap.difference and recovered.difference
    signed = Summary(Inputs(study.paths(*TABLES["comparisons"].needs))).difference(
        of_gap.row, of_gap.against, "forget", "gap_signed", 1
    )
    assert signed is not None
    # Of both rows the stage brings back what it brings back of `retrained`, of Sophia MORE beside it.
    assert recovered.difference.value == pytest.approx(signed.value + MORE, abs=1e-6)
    plain = [entry.difference.p for entry in decides if entry.difference]
    held = 0.0
    for factor, (p, entry) in zip((3, 2, 1), sorted(zip(plain, decides, strict=True)), strict=True):
        assert p is not None and entry.difference
        held = max(held, min(1.0, factor * p))
        assert entry.difference.p_holm == pytest.approx(held)


def test_undeclared_stages_are_families_of_their_own(root: Path) -> None:
    few: dict[str, Any] = {"methods": {"NPO": 0.8}, "optimizers": ("adamw", "sophia")}
    study = write_staged(root, scored=True, retrained_seeds=(4, 5), **few)
    found = entries(study)
    assert {e.row.key.after for e in found} == {"", "other"}
    assert {e.tests for e in found} == {1} and not any(e.quantity.metric == "recovery" for e in found)


def test_recovery_of_survivors_is_not_compared(root: Path) -> None:
    declared = [{"first": "sophia", "second": "adamw", "question": "Which?", "after": ["other"]}]
    few: dict[str, Any] = {"methods": {"NPO": 0.8}, "optimizers": ("adamw", "sophia")}
    study = write_staged(root, scored=True, retrained_seeds=(4, 5), comparisons=declared, **few)
    for kind, name in (("training", "run.json"), ("evaluations", "metrics.json")):
        lost = study.place(kind, "NPO", "sophia", 2).with_name("seed2.other")
        said = json.loads((lost / name).read_text()) | {"status": "diverged", "diverged_step": 3}
        write_json(lost / name, said | ({"metrics": []} if "metrics" in said else {}))
        (lost / "scores.csv").unlink(missing_ok=True)
    study.collect()
    (entry,) = [e for e in entries(study) if e.quantity.metric == "recovery"]
    assert entry.survivors and not entry.claimed
    assert entry.verdict == "not compared: 2 of 3 against 3 of 3 runs have a model"
