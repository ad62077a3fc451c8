"""`unlearning compare`: what is joined, what is said beside it, and what is refused."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from pathlib import Path

import pytest

from pipeline_lib import __main__ as command
from pipeline_lib.core.errors import UserError
from pipeline_lib.operations.comparing import compare
from tests.operations.joining.study import SUITE, TASK, made
from tests.paths import REPO
from tests.reporting.study import Study


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("first") / "first", suite="first")


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other settings, one other seed, another optimiser in place of one."""
    changes = {
        "seeds": [1, 2],
        "objectives": {"GradDiff": {"gamma": 3}, "NPO": {"beta": 0.2}},
        "optimizers": {"adamw": {"learning_rate": 1e-4}, "signum": {"learning_rate": 1e-4}},
    }
    root = made(tmp_path_factory.mktemp("second") / "second", suite="second", **changes)
    for path in root.rglob("run.json"):
        run = json.loads(path.read_text())
        path.write_text(json.dumps({**run, "git_commit": "fffffff", "versions": {"python": "3.12.1"}}))
    return root


def test_rows_of_both_are_joined_and_the_others_are_named(first: Path, second: Path, tmp_path: Path) -> None:
    out = tmp_path / "comparison.csv"
    text = compare(first, second, out)
    with open(out, newline="") as handle:
        lines = list(csv.DictReader(handle))
    rows = {(line["method"], line["optimizer"]) for line in lines}
    assert rows == {("original", "none"), ("retrained", "none"), ("GradDiff", "adamw"), ("NPO", "adamw")}
    measures = [(line["split"], line["metric"]) for line in lines if line["method"] == "NPO"]
    assert measures[:3] == [("forget", "gap"), ("forget", "gap_signed"), ("utility", "joint_utility")]
    kinds = {line["metric"]: line["interval"] for line in lines if line["method"] == "NPO"}
    assert {kinds[name] for name in ("gap", "gap_signed", "joint_utility", "probability")} == {"paired"}
    for line in lines:
        assert float(line["difference"]) == pytest.approx(float(line["b"]) - float(line["a"]))
        if line["ci_low"]:
            assert float(line["ci_low"]) <= float(line["difference"]) <= float(line["ci_high"])
    assert "\nauthors, tiny\nrow " in text
    assert "Only in A:\n- authors, tiny: GradDiff + sophia; NPO + sophia" in text
    assert "Only in B:\n- authors, tiny: GradDiff + signum; NPO + signum" in text


def test_the_notes_say_what_else_differs(first: Path, second: Path) -> None:
    text = compare(first, second)
    assert "- Seeds: A has 0, 1, B has 1, 2 (all rows)." in text
    assert "  objective.gamma: 2.0 in A, 3.0 in B (GradDiff + adamw)" in text
    assert "- Made with another python: 3.11.2 in A, 3.12.1 in B." in text
    assert "- Made with another commit: abc1234 in A, fffffff in B." in text
    assert "learning_rate" not in text and "Hashes" not in text, "what is alike is not told"


def test_the_notes_name_other_benchmarks_runs_that_were_lost_and_what_is_not_known(tmp_path: Path) -> None:
    one = Study(tmp_path / "a", scored=True, general={"arc_easy": 0.4}).write().root
    other = Study(tmp_path / "b", scored=True, diverged={}).write().root
    text = compare(one, other)
    counted = "Joint utility of fictitious, tiny counts other benchmarks (arc_easy in A, none in B)"
    assert f"- {counted}: it is not the same quantity." in text
    assert "- A lacks models of runs that diverged or have none (GradDiff + signum)." in text
    assert "- Settings are not compared: this version reads no suite.yaml of A and B." in text


def test_other_data_are_named_and_never_paired(first: Path, tmp_path: Path) -> None:
    other = made(tmp_path / "other", suite="other", tasks={"authors": {**TASK, "seed": 1}})
    out = tmp_path / "out.csv"
    text = compare(first, other, out)
    assert "  tasks.authors.seed: 0 in A, 1 in B" in text
    assert "- Data of authors differ in forget, retain" in text
    with open(out, newline="") as handle:
        kinds = {line["interval"] for line in csv.DictReader(handle)}
    assert "paired" not in kinds
    for root, task in ((first, "a"), (other, "b")):  # as kept results, without the manifests
        shutil.copytree(root, tmp_path / task)
        shutil.rmtree(tmp_path / task / "data")
    assert "paired:" not in compare(tmp_path / "a", tmp_path / "b"), "ids of generated data may be alike"


def test_packed_tables_of_a_kept_study_are_read(first: Path, second: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(first, kept)
    for name in ("metrics.csv", "scores.csv"):
        (kept / f"{name}.gz").write_bytes(gzip.compress((kept / name).read_bytes()))
        (kept / name).unlink()
    plain, packed = compare(first, second), compare(kept, second)
    assert packed.partition("\n")[2] == plain.partition("\n")[2]
    (kept / "scores.csv.gz").write_bytes((kept / "scores.csv.gz").read_bytes()[:50])
    with pytest.raises(UserError, match=r"scores\.csv\.gz: cannot be read as text"):
        compare(kept, second)


def test_joint_utility_is_paired_only_where_something_says_which_splits_count(
    first: Path, second: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(first, kept, ignore=shutil.ignore_patterns("manifest.json"))
    assert "scores.csv alone does not say which splits count" in compare(kept, second)
    (kept / "tables").mkdir()
    parts = "task,quantity\nauthors,retain.probability over original\nauthors,facts.fluency over original\n"
    (kept / "tables/joint_utility.csv").write_text(parts)
    text = compare(kept, second)
    assert "which splits count" not in text and "do not agree" not in text


def test_a_study_may_be_given_by_the_name_of_its_suite(
    first: Path,
    second: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for root in (first, second):
        shutil.copytree(root, tmp_path / "results" / root.name)
    monkeypatch.chdir(tmp_path)
    assert command.main(["compare", "first", "results/second", "--out", "c.csv"]) == 0
    assert capsys.readouterr().out.startswith("A: results/first\nB: results/second\n")
    assert (tmp_path / "c.csv").is_file()
    assert command.main(["compare", "firts", "second"]) == 1
    said = capsys.readouterr().err
    assert (
        said.startswith("firts: expected the results folder of a study") and "did you mean 'first'?" in said
    )
    assert command.main(["compare", "first", "results/first"]) == 1
    assert "are one folder (results/first); name two studies" in capsys.readouterr().err


def test_what_cannot_be_compared_is_refused_with_a_cure(first: Path, second: Path, tmp_path: Path) -> None:
    def refused(one: Path, *others: Path) -> str:
        with pytest.raises(UserError) as caught:
            compare(one, *(others or (second,)))
        return str(caught.value)

    begun = tmp_path / "begun"
    begun.mkdir()
    assert "is a folder without suite.yaml and metrics.csv" in refused(begun)
    shutil.copy(first / "suite.yaml", begun)
    assert f"not finished, as it has no metrics.csv. `unlearning status {begun}`" in refused(begun)
    lines = (first / "metrics.csv").read_text().splitlines()
    (begun / "metrics.csv").write_text("\n".join(line.rpartition(",n,")[0] or line for line in lines))
    assert "Another version of the project wrote it: make the table again" in refused(begun)
    assert "found columns" not in refused(begun)
    inside = refused(first, second, second / "metrics.csv")
    assert "where a study keeps its own files; name a file elsewhere" in inside


def test_a_study_of_before_requests_and_stages_is_read(first: Path, second: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    with open(first / "metrics.csv", newline="") as handle, open(old / "metrics.csv", "w", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerows(line[:-2] for line in csv.reader(handle))
    text = compare(old, second)
    assert "no scores.csv in A" in text and "this version reads no suite.yaml of A" in text
    assert "not kept in A" in text


def test_nothing_in_common_says_what_each_has(first: Path, tmp_path: Path) -> None:
    other = made(tmp_path / "other", suite="other", tasks={"people": SUITE["tasks"]["authors"]})
    with pytest.raises(UserError) as caught:
        compare(first, other)
    said = str(caught.value)
    assert "no row in common" in said
    assert f"A ({first}) has authors, tiny: original; retrained; GradDiff + adamw" in said
    assert f"B ({other}) has people, tiny: original" in said


def test_kept_runs_that_asked_other_questions() -> None:
    """Real runs: the same model and methods, other forget authors."""
    results = REPO / "results" / "reference"
    text = compare(results / "demo", results / "attacked")
    assert "authors, tiny" in text and "Other questions were asked (authors, forget" in text
    assert "book, tiny" in text.partition("Only in A:")[2]


def test_kept_runs_of_the_same_questions_are_paired() -> None:
    results = REPO / "results" / "reference"
    text = compare(results / "core", results / "core-controls")
    gap = next(line for line in text.splitlines() if line.startswith("retrained") and "Gap" in line)
    assert gap.endswith("paired")
    assert "Settings of A were chosen by trials" in text
