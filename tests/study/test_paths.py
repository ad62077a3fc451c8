"""Jobs and rows of runs that are judged on their way, and of the choice where they are compared."""

from __future__ import annotations

from pipeline_lib.study import parse_suite
from pipeline_lib.study.graph import Graph
from tests.study.suites import error, errors, small
from tests.study.test_tune import TUNE


def test_a_run_made_again_to_the_level_is_a_row_that_stages_can_start_from() -> None:
    raw = small(
        evaluation={"trajectory": {"matched": True}},
        optimizers={"adamw": {"learning_rate": 1e-4}, "influence": {"learning_rate": 1.0}},
        objectives={"GradDiff": None, "GradAscent": None},
        unlearn={"decay": "constant"},
        stages={
            "later": {"kind": "finetune", "of": ["GradDiff+adamw/matched"], "split": "retain"},
            "all": {"kind": "finetune", "split": "facts"},
        },
    )
    graph = Graph(parse_suite(raw))
    run = "authors/tiny/GradDiff/adamw/seed1"
    assert graph.jobs["match", run].inputs["originals"] == tuple(
        f"evaluations/authors/tiny/original/none/seed{seed}/records.jsonl" for seed in (0, 1)
    )
    assert graph.jobs["match", run].inputs["retrained"] == tuple(
        f"evaluations/authors/tiny/retrained/none/seed{seed}/records.jsonl" for seed in (0, 1)
    )
    again, once = graph.jobs["unlearn", f"{run}.matched"], graph.jobs["unlearn", run]
    assert again.inputs == {**once.inputs, "matched": f"matched/{run}.json"}
    assert (again.settings, again.code) == (once.settings, once.code)
    assert graph.jobs["stage", f"{run}.matched.later"].inputs["parents"] == (f"models/{run}.matched",)
    after = {key.row.after for key in graph.models if key.method == "GradDiff" and key.optimizer == "adamw"}
    assert after == {"", "matched", "matched/later", "all"}  # a stage of all runs is of these alone
    assert not any(key.after.startswith("matched") for key in graph.models if key.optimizer == "influence")
    paths = graph.jobs["collect", "authors/metrics"].inputs["paths"]
    assert f"training/{run}.matched/steps.jsonl" in paths
    (fault,) = errors(raw | {"stages": {"matched": raw["stages"]["all"]}})
    assert fault.startswith("stages.matched: 'matched' is the label of an objective or of another model")


def test_trials_are_chosen_where_rows_are_compared() -> None:
    path = {"evaluation": {"trajectory": {"utility": 0.9}}, "unlearn": {"decay": "constant"}}
    assert error(small(tune={**TUNE, "select": {"forget": "front_gap"}})) == (
        "tune.select.forget: found 'front_gap'; runs of authors are not judged on their way; "
        "set `evaluation.trajectory`, or leave `forget` out"
    )
    graph = Graph(parse_suite(small(tune=TUNE, **path)))
    chosen = graph.jobs["choose", "authors/tiny/GradDiff/adamw"]
    assert chosen.settings["select"]["forget"] == "front_gap"
    assert chosen.settings["select"]["level"] == 0.9 and "retrained" in chosen.inputs
    trial = graph.jobs["trial", "authors/tiny/GradDiff/adamw/trial1/seed100"]
    assert trial.settings["trajectory"]["points"] == 8 and "pipeline_lib.steps.trajectory" in trial.code
    plain = Graph(parse_suite(small(tune=TUNE)))
    assert "trajectory" not in plain.jobs["trial", trial.name].settings
