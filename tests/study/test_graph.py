"""The graph that a suite declares, held against the one that Snakemake builds from the rules, job by job."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline_lib.study import parse_suite
from pipeline_lib.study.graph import Graph
from pipeline_lib.study.jobs import Job
from tests.paths import REPO
from tests.study.dry_run import Planned, dry_run
from tests.study.suites import small

FILES = {  # that shipped suites name, as small as their tasks allow
    "COPYRIGHTED_BOOK": ("book.txt", "It was a dark night. " * 2000),
    "REAL_TOXICITY_PROMPTS": ("prompts.jsonl", '{"prompt": "It was"}\n' * 500),
}
TUNE = {
    "seeds": [100, 101],
    "trials": 2,
    "optimizers": {"adamw": {"learning_rate": {"low": 1e-4, "high": 1e-2, "scale": "log"}}},
}
STAGES = {
    "other": {"kind": "finetune", "split": "facts"},
    "soup": {"kind": "average", "of": ["GradDiff+adamw", "GradDiff+adamw/other"]},
    "again": {"kind": "finetune", "of": ["soup", "original"], "split": "facts"},
}


def shipped() -> dict[str, dict[str, Any]]:
    """The suites as files hold them, with a seed or two."""
    suites = {}
    for path in (REPO / "config.yaml", *sorted((REPO / "config").glob("*.yaml"))):
        suite = yaml.safe_load(path.read_text(encoding="utf-8"))
        suites[path.stem] = {**suite, "seeds": suite.get("seeds", [0])[:2]}
    one = {"optimizers": {"adamw": {"learning_rate": 1e-3}}, "objectives": {"GradDiff": None}}
    suites["tuned"] = small(tune=TUNE, **one)
    suites["by distance"] = small(tune={**TUNE, "select": {"forget": "ks_statistic"}}, **one)
    suites["stages"] = small(stages=STAGES, seeds=[0, 1], **one)
    return suites


SUITES = shipped()


@pytest.fixture(autouse=True)
def _files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable, (name, text) in FILES.items():
        (tmp_path / name).write_text(text)
        monkeypatch.setenv(variable, str(tmp_path / name))
    for name in ("books/alice_in_wonderland.txt", "realtoxicityprompts/prompts.jsonl"):
        place = tmp_path / "data" / name
        place.parent.mkdir(parents=True)
        place.write_text(FILES["COPYRIGHTED_BOOK" if name.endswith("txt") else "REAL_TOXICITY_PROMPTS"][1])
    monkeypatch.setenv("PIPELINE_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("PIPELINE_MODELS", raising=False)


@pytest.mark.parametrize("name", SUITES)
def test_every_job_is_the_workflows(name: str, tmp_path: Path) -> None:
    suite = SUITES[name]
    if name == "paper":
        del suite["models"]["opt_1_3b"]["path"]
        suite["models"]["opt_1_3b"] |= {"source": "hub", "id": "facebook/opt-1.3b", "revision": "0" * 40}
    done = dry_run(suite, tmp_path / "run")
    assert done.refused is None, done.refused
    declared = {as_planned(job) for job in Graph(parse_suite(suite)).study()}
    assert declared == set(done.planned)


def as_planned(job: Job) -> Planned:
    return Planned(job.rule, files(job.inputs.values()), files(job.outputs.values()), job.log, job.benchmark)


def files(places: Collection[str | tuple[str, ...]]) -> frozenset[str]:
    return frozenset(file for place in places for file in ([place] if isinstance(place, str) else place))


@pytest.mark.parametrize("name", SUITES)
def test_jobs_stand_in_an_order_in_which_they_can_run(name: str) -> None:
    if name == "paper":
        pytest.skip("its model is a folder of the user's")
    made: set[str] = set()
    for job in Graph(parse_suite(SUITES[name])).study():
        assert files(job.inputs.values()) <= made, f"{job.title} reads what is made later"
        assert made.isdisjoint(files(job.outputs.values())), f"{job.title} writes what another job wrote"
        assert job.result in files(job.outputs.values())
        made |= files(job.outputs.values())


def test_the_graph_is_a_function_of_the_suite_alone() -> None:
    one, two = (Graph(parse_suite(SUITES["stages"])).study() for _ in range(2))
    assert one == two


def test_a_stage_takes_any_model_and_its_models_are_evaluated_as_others_are() -> None:
    jobs = {(job.rule, job.name): job for job in Graph(parse_suite(SUITES["stages"])).study()}
    place = "authors/tiny/{}/seed1"
    after, soup, chain, anchor = (
        place.format("GradDiff/adamw") + ".other",
        place.format("soup/none"),
        place.format("soup/none") + ".again",
        place.format("original/none") + ".again",
    )
    for name in (after, soup, chain, anchor):
        assert {rule for rule, of in jobs if of == name} == {"stage", "evaluate", "score"}
    parents = [jobs["stage", name].inputs["parents"] for name in (after, soup, chain)]
    assert parents == [
        (f"models/{place.format('GradDiff/adamw')}",),
        (f"models/{place.format('GradDiff/adamw')}", f"models/{after}"),
        (f"models/{soup}",),
    ]
    reference = f"evaluations/{place.format('retrained/none')}/records.jsonl"
    assert jobs["score", anchor].inputs["reference"] == reference, "not of the next seed, as an anchor's"
