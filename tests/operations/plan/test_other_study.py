"""A results folder of another study is refused; a changed study of the same name is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.operations.plan import check_same_study, check_unchanged
from pipeline_lib.study import dump_suite, parse_suite
from tests.study.suites import small

AUTHORS = {"authors": {"source": "fictitious"}}
BOOK = {"book": {"source": "passages", "book": "generated", "retain": {"source": "generated"}}}
TINY, OTHER = {"tiny": {"source": "scratch"}}, {"other": {"source": "scratch"}}


def suite(tasks: Any = AUTHORS, models: Any = TINY, **changes: Any) -> Any:
    return parse_suite(small(tasks=tasks, models=models, **changes))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The results of the plain suite, with one model trained."""
    folder = tmp_path / "results" / suite().suite
    run = folder / "training/authors/tiny/original/none/seed0/run.json"
    run.parent.mkdir(parents=True)
    run.write_text('{"request": 0}')
    (folder / "suite.yaml").write_text(dump_suite(suite()))
    return folder


@pytest.mark.parametrize(
    ("tasks", "models", "told"),
    [
        (BOOK, TINY, "tasks: found authors (fictitious) in the folder, and book (passages) in this suite"),
        (AUTHORS, OTHER, "models: found tiny (scratch) in the folder, and other (scratch) in this suite"),
        (
            {"authors": BOOK["book"]},
            TINY,
            "tasks: found authors (fictitious) in the folder, and authors (pass",
        ),
    ],
)
def test_a_suite_that_shares_nothing_is_another_study(out, tasks, models, told):
    with pytest.raises(UserError) as caught:
        check_same_study(suite(tasks, models), out)
    message = str(caught.value)
    assert message.startswith(f"{out} belongs to another study, which has the same name:") and told in message
    assert "Give this suite a name of its own" in message and f"mv {out} {out}-before" in message


def test_every_other_change_is_one_of_the_same_study(out):
    check_same_study(suite(), out)
    check_same_study(suite(tasks={**AUTHORS, **BOOK}, models={**TINY, **OTHER}), out)
    check_same_study(suite(seeds=[7, 8, 9], finetune={"epochs": 2}, objectives={"NPO": None}), out)
    check_same_study(suite(tasks={"authors": {"source": "fictitious", "n_authors": 9, "seed": 3}}), out)


def test_where_nothing_is_trained_there_is_nothing_to_mix(out):
    for path in out.glob("training/*/*/*/*/seed*/run.json"):
        path.unlink()
    check_same_study(suite(BOOK), out)
    check_same_study(suite(BOOK), out / "nothing")
    (out / "suite.yaml").write_text("tasks: [")
    check_same_study(suite(BOOK), out)


def test_a_folder_of_the_former_layout_is_told_of_before_any_job(out):
    """Without columns and names for requests and stages, all of it would silently be made again."""
    (run,) = out.glob("training/*/*/*/*/seed*/run.json")
    run.write_text("{}")
    with pytest.raises(UserError, match="made by a former version") as caught:
        check_same_study(suite(), out)
    assert f"(mv {out} {out}-before)" in str(caught.value) and str(run) in str(caught.value)


def test_results_without_records_are_of_the_suite_as_it_is(out):
    check_unchanged(suite(), out)
    check_unchanged(suite(resources={"gpus": 2}, tracking={}), out)


def test_a_changed_suite_is_refused_where_nothing_would_run_again(out):
    changed = suite(seeds=[0, 2, 3], finetune={"epochs": 2}, objectives={"NPO": None})
    with pytest.raises(UserError) as caught:
        check_unchanged(changed, out)
    heading, *lines, cure = str(caught.value).splitlines()
    assert heading.startswith(f"{out} lies here without Snakemake's records, by which")
    assert lines[:-1] == [
        "  seeds.1: found 1 in the folder, and 2 in this suite",
        "  seeds.2: found nothing in the folder, and 3 in this suite",
    ]
    assert lines[2].startswith("  tasks.authors.finetune.epochs: found 5.0 in the folder, and 2.0")
    assert ".snakemake/metadata" in cure and "`suite: small-2`" in cure and str(out / "suite.yaml") in cure
