"""The suite of a joined study: what is united, and the order of its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline_lib.operations.joining.piece import Piece
from pipeline_lib.operations.joining.suites import joined_suite
from pipeline_lib.study import Suite, parse_suite
from pipeline_lib.study.table import models_of
from tests.operations.joining.study import SUITE


def joined(*pieces: dict[str, Any]) -> Suite:
    suites = [parse_suite({**SUITE, "suite": f"piece{i}", **changes}) for i, changes in enumerate(pieces)]
    return joined_suite("whole", [Piece(Path(s.suite), s, (), {}, {}, {}, {}) for s in suites])


def block(method: str, optimizer: str, **changes: Any) -> dict[str, Any]:
    return {"methods": [method], "optimizers": [optimizer], **changes}


def rows(suite: Suite) -> list[str]:
    return list(dict.fromkeys(f"{run.method} {run.optimizer}" for run in suite.run_table()))


def test_seeds_come_in_the_order_of_the_pieces() -> None:
    suite = joined({"seeds": [2, 5], "retrained_seeds": [1, 8]}, {"seeds": [1]}, {"seeds": [5, 0]})
    assert (suite.seeds, suite.retrained_seeds) == ([2, 5, 1, 0], [8])


def test_the_base_of_a_joined_study_is_that_of_the_piece_with_its_lowest_seed() -> None:
    text = {"text": [{"path": "story.txt"}], "steps": 3}
    models = {"tiny": {"source": "scratch", "pretrain": text}}
    suites = [
        parse_suite({**SUITE, "suite": f"p{seed}", "models": models, "seeds": [seed]}) for seed in (3, 1)
    ]
    pieces = [Piece(Path(s.suite), s, tuple(models_of(s)), {}, {}, {}, {}) for s in suites]
    whole = joined_suite("whole", pieces)
    runs = [piece.within(whole).runs for piece in pieces]
    assert [[key.seed for key in of if key.method == "base"] for of in runs] == [[], [1]]
    assert {key for of in runs for key in of} == set(models_of(whole))


def test_rows_that_make_up_the_grid_stand_in_its_order() -> None:
    suite = joined(
        {"runs": [block("NPO", "sophia"), block("GradDiff", "sophia")]},
        {"runs": [{"methods": ["NPO", "GradDiff"], "optimizers": ["adamw"]}]},
    )
    assert suite.runs is None
    assert rows(suite) == ["GradDiff adamw", "GradDiff sophia", "NPO adamw", "NPO sophia"]


def test_other_rows_stand_in_the_order_of_the_pieces_with_their_own_settings() -> None:
    own = block("NPO", "adamw", objective={"beta": 0.7}, unlearn={"epochs": 3})
    suite = joined({"runs": [block("NPO", "sophia")]}, {"runs": [own]})
    assert rows(suite) == ["NPO sophia", "NPO adamw"]
    first, *_, last = suite.run_table()
    assert (first.objective.beta, last.objective.beta, last.unlearn.epochs) == (0.2, 0.7, 3)


def test_a_row_in_two_blocks_is_there_once() -> None:
    own = block("NPO", "adamw", unlearn={"epochs": 3})
    both = {"methods": ["GradDiff"], "optimizers": ["adamw", "sophia"]}
    suite = joined({"runs": [both, own]}, {"runs": [block("GradDiff", "sophia"), own]})
    assert rows(suite) == ["GradDiff adamw", "GradDiff sophia", "NPO adamw"]
    assert [run.unlearn.epochs for run in suite.run_table()][-1] == 3


def test_labels_and_comparisons_are_united_and_the_first_resources_count() -> None:
    asked = {"first": "sophia", "second": "adamw", "question": "Which?"}
    suite = joined(
        {"objectives": {"NPO": {"beta": 0.2}}, "comparisons": [asked], "resources": {"threads": 3}},
        {"objectives": {"KL": None}, "tasks": {"other": {**SUITE["tasks"]["authors"], "seed": 4}}},
    )
    assert [*suite.tasks] == ["authors", "other"] and [*suite.objectives] == ["NPO", "KL"]
    assert {(run.task, run.method) for run in suite.run_table()} == {("authors", "NPO"), ("other", "KL")}
    assert suite.comparisons is not None and len(suite.comparisons) == 1 and suite.resources.threads == 3
