"""Declared comparisons and the bound of equal retention: what is taken, and what is refused how."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from pipeline_lib.operations.plan.power import power
from pipeline_lib.study import dump_suite, parse_suite
from tests.study.suites import error, errors, small


def compare(first: str, second: str, question: str = "Which?") -> dict[str, str]:
    return {"first": first, "second": second, "question": question}


def test_comparisons_reach_the_resolved_suite() -> None:
    declared = [compare("adamw", "sophia"), compare("sophia", "published", "What does gamma change?")]
    suite = parse_suite(small(comparisons=declared, evaluation={"equal_retain": 0.05}))
    resolved = yaml.safe_load(dump_suite(suite))
    assert resolved["comparisons"] == declared
    assert resolved["evaluation"]["equal_retain"] == 0.05


def test_none_are_declared_by_default() -> None:
    resolved = yaml.safe_load(dump_suite(parse_suite(small())))
    assert resolved["comparisons"] is None and resolved["evaluation"]["equal_retain"] is None


def test_labels_that_are_not_there() -> None:
    assert errors(small(comparisons=[compare("adamv", "sohpia")])) == [
        "comparisons.0.first: found 'adamv'; did you mean 'adamw'? Allowed: adamw, published, sophia",
        "comparisons.0.second: found 'sohpia'; did you mean 'sophia'? Allowed: adamw, published, sophia",
    ]


def test_a_row_against_itself_and_a_pair_twice() -> None:
    assert errors(small(comparisons=[compare("adamw", "adamw")])) == [
        "comparisons.0.second: is 'adamw', as `first` is; compare two optimisers"
    ]
    twice = [compare("adamw", "sophia"), compare("sophia", "adamw", "The other way round?")]
    assert errors(small(comparisons=twice)) == [
        "comparisons.1: compares sophia and adamw, as comparisons.0 already does"
    ]


def test_a_pair_that_no_method_has() -> None:
    runs = [
        {"methods": ["GradDiff"], "optimizers": ["adamw"]},
        {"methods": ["NPO"], "optimizers": ["sophia"]},
    ]
    assert error(small(runs=runs, comparisons=[compare("adamw", "sophia")])) == (
        "comparisons.0: no method runs with both adamw and sophia; add such runs"
    )
    runs[1]["methods"] = ["NPO", "GradDiff"]
    parse_suite(small(runs=runs, comparisons=[compare("adamw", "sophia")]))


def test_faults_of_the_runs_are_not_said_twice() -> None:
    runs = [{"methods": ["GradDiff"], "optimizers": ["adamw", "sohpia"]}]
    (line,) = errors(small(runs=runs, comparisons=[compare("adamw", "sophia")]))
    assert line.startswith("runs.0.optimizers: found 'sohpia'")


def staged(after: list[str], of: list[str], **more: Any) -> dict[str, Any]:
    """Both optimisers with NPO, one stage, and a comparison after stages."""
    stage = {"kind": "finetune", "split": "retain", "epochs": 1, "learning_rate": 1e-4, "of": of}
    runs = [{"methods": ["NPO"], "optimizers": ["adamw", "sophia"]}]
    declared = [compare("sophia", "adamw") | {"after": after}]
    return small(runs=runs, stages={"again": stage}, comparisons=declared, **more)


BOTH = ["NPO+adamw", "NPO+sophia"]


@pytest.mark.parametrize(
    ("after", "of", "message"),
    [
        (["agian"], [*BOTH, "retrained"], "comparisons.0.after.0: found 'agian'; did you mean 'again'?"),
        (["again", "again"], [*BOTH, "retrained"], "comparisons.0.after.1: 'again' appears twice"),
        (
            ["again"],
            ["NPO+adamw", "retrained"],
            "comparisons.0.after.0: no method has both rows after again; add both to `of` of its stages",
        ),
        (["again"], BOTH, "comparisons.0.after.0: `retrained` of "),
    ],
)
def test_stages_after_which_nothing_can_be_compared(after: list[str], of: list[str], message: str) -> None:
    assert error(staged(after, of)).startswith(message)


def test_a_stage_that_both_rows_go_through_is_a_test_more() -> None:
    """The family decides what a study can detect: it is counted before anything runs."""
    of = [*BOTH, "GradDiff+adamw", "retrained"]
    suite = staged(["again"], of)
    suite["runs"][0]["methods"] = ["NPO", "GradDiff"]
    said = list(power(parse_suite(suite)))
    assert any(line.startswith("authors, tiny: 3 comparisons of rows") for line in said), said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"comparisons": []}, "comparisons: found an empty list; must not be empty"),
        ({"comparisons": [{"first": "adamw", "second": "sophia"}]}, "comparisons.0.question: is missing"),
        ({"comparisons": [compare("adamw", "sophia", "")]}, "comparisons.0.question: found ''"),
        ({"evaluation": {"equal_retain": 1}}, "evaluation.equal_retain: found 1; must be smaller than 1"),
        ({"evaluation": {"equal_retain": 0}}, "evaluation.equal_retain: found 0; must be greater than 0"),
        ({"evaluation": {"equal_retain": True}}, "evaluation.equal_retain: found true (or yes, on)"),
    ],
)
def test_other_slips(change: dict[str, Any], message: str) -> None:
    assert error(small(**change)).startswith(message)
