"""A study joined from its pieces is the study run whole, as far as the pieces' files go."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from pipeline_lib import __main__ as command
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json
from pipeline_lib.metrics import declared
from pipeline_lib.operations.joining import join, written
from tests.operations.joining.conftest import Copied
from tests.operations.joining.study import made, only_small_files

NUMBERS = ("metrics.csv", "scores.csv", "costs.csv", "runs.json", "suite.yaml", "data/authors/manifest.json")
LEFT_OUT = (
    "left out: the distances between the seeds of authors/tiny/retrained/none, which are in several pieces: "
    "they need records.jsonl of all these seeds, and the version of the project that scored them"
)


@pytest.fixture
def nothing_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written.Joined, "draw", lambda self: [])


def lines_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize("split", ["by_seed", "by_row"])
def test_joined_pieces_are_the_whole_study_to_the_last_bit(
    split: str, whole: Path, tmp_path: Path, request: pytest.FixtureRequest, capsys
) -> None:
    pieces = list(map(str, request.getfixturevalue(split)))
    out = tmp_path / "results" / "whole"
    assert command.main(["join", str(out), *pieces]) == 0
    models = 6 if split == "by_seed" else 8
    assert capsys.readouterr().out == (
        "".join(f"{piece}: {models} models\n" for piece in pieces) + f"joined: {out}\n"
    )
    shown = [path for form in ("csv", "md", "tex", "svg", "png", "html") for path in whole.rglob(f"*.{form}")]
    shown = [path for path in shown if path.relative_to(whole).parts[0] in ("tables", "figures", "report")]
    assert len(shown) > 30
    for path in (*NUMBERS, *(path.relative_to(whole) for path in shown)):
        assert (out / path).read_bytes() == (whole / path).read_bytes(), path
    for name in ("run.json", "steps.jsonl"):
        assert len(list(out.rglob(name))) == len(list(whole.rglob(name)))


def test_stages_that_were_judged_on_their_way_join_with_their_curves(
    tmp_path: Path, nothing_drawn: None
) -> None:
    """The largest recovery is that of the whole study, and a log that is gone is named."""
    relearned = {"kind": "finetune", "split": "forget", "groups": 1, "points": 2}
    of = {"again": {**relearned, "of": ["GradDiff+adamw", "GradDiff+sophia", "retrained", "original"]}}
    changes = {"stages": of, "retrained_seeds": [2, 3], "objectives": {"GradDiff": None}}
    whole = made(tmp_path / "whole", **changes)
    pieces = []
    for name in ("adamw", "sophia"):
        stages = {"again": {**relearned, "of": [f"GradDiff+{name}", "retrained", "original"]}}
        runs = [{"methods": ["GradDiff"], "optimizers": [name]}]
        piece = {**changes, "stages": stages, "runs": runs}
        pieces.append(only_small_files(made(tmp_path / name, suite=name, **piece)))
    join(tmp_path / "out" / "whole", pieces)
    assert (tmp_path / "out" / "whole" / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    lines = {(line["metric"], line["after"]): line["value"] for line in lines_of(whole / "metrics.csv")}
    assert ("recovery", "again") in lines and ("recovery_max_p", "") in lines
    assert float(lines["recovery_places", ""]) == 2
    log = "training/authors/tiny/GradDiff/sophia/seed1.again/steps.jsonl"
    (pieces[1] / log).unlink()
    with pytest.raises(UserError, match=r"seed1\.again/steps\.jsonl.*Keep training"):
        join(tmp_path / "again" / "whole", pieces)


def test_what_needs_all_models_is_computed_and_never_copied(
    by_seed: list[Path], copied: Copied, whole: Path, tmp_path: Path, nothing_drawn: None
) -> None:
    one, other = copied(by_seed)
    for piece in (one, other):
        lines = (piece / "metrics.csv").read_text().splitlines(keepends=True)
        names = [name for name, metric in declared().items() if metric.on == "study"]
        kept = [line for line in lines if not any(f",{name}," in line for name in names)]
        assert len(kept) < len(lines)
        (piece / "metrics.csv").write_text("".join(kept))
    join(tmp_path / "out" / "whole", [one, other])
    assert (tmp_path / "out/whole/metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()


def test_further_retrained_seeds_may_be_in_one_piece(tmp_path: Path, nothing_drawn: None) -> None:
    kept = {"objectives": {"NPO": {"beta": 0.2}}, "optimizers": {"adamw": {"learning_rate": 1e-4}}}
    one = made(tmp_path / "one", suite="one", seeds=[0], retrained_seeds=[7, 8], **kept)
    other = made(tmp_path / "other", suite="other", seeds=[1], retrained_seeds=[8], **kept)
    whole = made(tmp_path / "whole", seeds=[0, 1], retrained_seeds=[7, 8], **kept)
    out = tmp_path / "out" / "whole"
    join(out, [one, other])
    for name in NUMBERS:
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    assert {row["seed"] for row in lines_of(out / "metrics.csv") if row["metric"] == "gap_p"} == set("0178")


def test_a_join_goes_on_from_an_earlier_one(by_seed: list[Path], tmp_path: Path, nothing_drawn: None) -> None:
    third = made(tmp_path / "seed2", suite="seed2", seeds=[2])
    join(tmp_path / "first" / "whole", [*by_seed, third])
    join(tmp_path / "two", by_seed)
    facts = read_json(tmp_path / "two" / "joined.json")
    assert [piece["models"] for piece in facts["pieces"]] == [6, 6]
    assert facts["made_of"]["authors/tiny/NPO/adamw/seed1"]["scored_by"] == "c0de"
    said = join(tmp_path / "second" / "whole", [tmp_path / "two", third])
    assert [line for line in said if line.startswith("left out")] == [LEFT_OUT], "records are not joined"
    join(tmp_path / "two", by_seed)  # an earlier join's folder is replaced


def test_small_files_are_enough_but_for_answers_and_distances_between_retrained_models(
    by_seed: list[Path], copied: Copied, whole: Path, tmp_path: Path
) -> None:
    pieces = [only_small_files(piece) for piece in copied(by_seed)]
    out = tmp_path / "out" / "whole"
    said = join(out, pieces)
    assert said[2:] == [
        LEFT_OUT,
        "left out: figure truth_ratio, which reads records.jsonl of 12 models",
        "left out: the answers in the report, which reads records.jsonl of 12 models",
    ]
    there, expected = (lines_of(folder / "metrics.csv") for folder in (out, whole))
    lacking = [row for row in expected if row not in there]
    assert there == [row for row in expected if row not in lacking]
    assert {row["method"] for row in lacking} == {"retrained"}
    assert all(declared()[row["metric"]].beside_retrained for row in lacking)
    page = (out / "report" / "index.html").read_text()
    assert "Not shown: the answers (records.jsonl) are not kept with these results." in page
    assert sorted(path.name for path in (out / "tables").iterdir()) == sorted(
        path.name for path in (whole / "tables").iterdir()
    )


def test_without_the_files_beside_models_their_tables_and_the_report_are_left_out(
    by_seed: list[Path], copied: Copied, tmp_path: Path
) -> None:
    pieces = [only_small_files(piece) for piece in copied(by_seed)]
    shutil.rmtree(pieces[1] / "training")
    said = join(tmp_path / "out", pieces)
    assert [line for line in said if "models" in line and line.startswith("left out")] == [
        "left out: table settings, which reads run.json of 6 models",
        "left out: table tuning, which reads run.json of 6 models",
        "left out: figure truth_ratio, which reads records.jsonl of 12 models",
        "left out: figure trajectory, which reads steps.jsonl of 6 models",
        "left out: the report, which reads run.json of 6 models",
    ]
    assert (tmp_path / "out/tables/main.csv").is_file() and not (tmp_path / "out/report").exists()


def test_a_failed_join_leaves_nothing(
    by_seed: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: written.Joined) -> list[str]:
        raise UserError("no more")

    monkeypatch.setattr(written.Joined, "draw", fail)
    with pytest.raises(UserError, match="no more"):
        join(tmp_path / "out", by_seed)
    assert not list(tmp_path.iterdir())
