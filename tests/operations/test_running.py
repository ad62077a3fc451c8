"""What the workflow asks of a study: the identity of each job, and where it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.operations.running import Running
from pipeline_lib.study import dump_suite, parse_suite
from pipeline_lib.study.jobs import RULES, Job
from tests.study.suites import small

OF = ["GradAscent+adamw", "NPO+adamw"]


def running(of: list[str] = OF, **resources: Any) -> Running:
    stages = {
        "soup": {"kind": "average", "of": of, "weights": [1, 9]},
        "other": {"kind": "finetune", "split": "facts", "of": OF[:1]},
    }
    return Running(parse_suite(small(seeds=[0], resources=resources, stages=stages)))


def wildcards(job: Job) -> dict[str, str]:
    return {RULES[job.rule].wildcard: job.name}


def identities(study: Running) -> dict[str, dict[str, Any]]:
    """The parameters of every job, by which it runs again."""
    return {job.title: study.params(job.rule)(wildcards(job)) for job in study.graph.study()}


def asked(study: Running, title: str) -> dict[str, Any]:
    """Where a job runs, as Snakemake reads it: what is None was not asked for."""
    (job,) = (job for job in study.graph.study() if job.title == title)
    given = study.resources(job.rule)
    del given["mem_mb"], given["runtime"]
    values = {name: value(wildcards(job)) if callable(value) else value for name, value in given.items()}
    return {name: value for name, value in values.items() if value is not None}


def test_other_parents_in_the_same_places_make_another_model() -> None:
    """Weights are given to parents by their order, which Snakemake does not look at."""
    one, two = identities(running()), identities(running(OF[::-1]))
    changed = {title for title in one if one[title] != two[title]}
    assert {title for title in changed if title.startswith("stage")} == {"stage authors/tiny/soup/none/seed0"}


def test_another_device_is_no_other_study() -> None:
    one, two = identities(running()), identities(running(device="cpu"))
    del one["describe_suite"], two["describe_suite"]  # which writes the resources down
    assert one == two
    assert "device" not in asked(running(), "unlearn authors/tiny/NPO/adamw/seed0")
    for title in ("unlearn authors/tiny/NPO/adamw/seed0", "evaluate authors/tiny/NPO/adamw/seed0"):
        assert asked(running(device="cpu"), title) == {"device": "cpu"}
    assert asked(running(device="cpu"), "score authors/tiny/NPO/adamw/seed0") == {}


@pytest.mark.parametrize(
    ("resources", "training"),
    [
        ({"gpus": 4}, {"gpu": 4, "processes": 4}),
        (
            {"gpus": 4, "nodes": 2, "sharding": "full"},
            {"gres": "gpu:4", "nodes": 2, "processes": 4, "sharding": "full"},
        ),
    ],
)
def test_a_job_gets_the_processes_that_it_needs(resources: Any, training: dict[str, Any]) -> None:
    """An average takes no step: it is one process, whatever the other stages are."""
    study = running(**resources)
    assert asked(study, "unlearn authors/tiny/NPO/adamw/seed0") == training
    assert asked(study, "stage authors/tiny/GradAscent/adamw/seed0.other") == training
    for title in ("stage authors/tiny/soup/none/seed0", "evaluate authors/tiny/soup/none/seed0"):
        assert asked(study, title) == {"gpu": 1}


def test_results_without_records_are_refused_before_any_job_where_the_suite_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = running()
    study.look_at_inputs([])
    study.out.mkdir(parents=True)
    (study.out / "runs.json").write_text("[]")
    (study.out / "suite.yaml").write_text(dump_suite(running(OF[::-1]).suite))
    with pytest.raises(UserError, match="without Snakemake's records"):
        running().look_at_inputs([])
    running(OF[::-1]).look_at_inputs([])
    (tmp_path / ".snakemake/metadata").mkdir(parents=True)
    (tmp_path / ".snakemake/metadata/cmVzdWx0cy9zbWFsbC9ydW5zLmpzb24=").write_text("{}")
    running().look_at_inputs([])
